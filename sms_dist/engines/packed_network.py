"""One network with several sets of weights: what each makes of a batch of its own, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

Seen = Callable[[Any, Tensor], tuple[Tensor, Tensor]]  # (outputs, targets) -> summed loss, facts
LOW = (torch.conv1d, torch.conv2d, torch.conv3d, F.linear)


class PackedNetwork:
    """Rows of weights: row r is all parameters of one copy of the network, one after another.

    Row r of what comes out depends on row r of what goes in, whatever lies in the others. Its bits
    do depend on the number of rows: convolutions and products of matrices choose their way of
    summing by it.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """`model`: how to compute; its own weights are not looked at."""
        self._model, self._dtype = model, dtype
        self._shapes = {name: p.shape for name, p in model.named_parameters()}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        self._device = next(model.parameters()).device

    def row(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """[P]: the tensors of all parameters as a row."""
        return torch.cat([tensors[name].detach().flatten() for name in self._shapes])

    def named(self, row: Tensor) -> dict[str, Tensor]:
        """The parameters of a row, as views of it."""
        pieces = torch.split(row, self._sizes)
        return {n: p.view(s) for (n, s), p in zip(self._shapes.items(), pieces, strict=True)}

    def seen(
        self,
        rows: Tensor,
        buffers: Mapping[str, Tensor],
        inputs: Sequence[Tensor],
        targets: Tensor,
        seen: Seen,
    ) -> tuple[Tensor, Tensor]:
        """The loss of every row on its batch, [R], and what else `seen` finds, [R, ...].

        All have a row in their first dim. The buffers, as of batch norm, are changed in place.
        """

        def one(
            row: dict[str, Tensor],
            own: Mapping[str, Tensor],
            inputs: tuple[Tensor, ...],
            targets: Tensor,
        ) -> tuple[Tensor, Tensor]:
            with self._precision():
                outputs = functional_call(self._model, (row, dict(own)), inputs)
                return seen(outputs, targets)

        pieces = torch.split(rows, self._sizes, dim=1)
        stacked = {
            name: piece.view(-1, *shape)
            for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)
        }
        return vmap(one)(stacked, buffers, tuple(inputs), targets)

    def _precision(self) -> AbstractContextManager[object]:
        stack = ExitStack()
        if self._dtype is not torch.float32:
            stack.enter_context(torch.autocast(self._device.type, dtype=self._dtype))
            stack.enter_context(_UnderVmap(self._dtype))
        return stack


class _UnderVmap(TorchFunctionMode):
    """What autocast does to some operations, which vmap takes apart before it sees them."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in LOW:
            args = tuple(self._low(value) for value in args)
            kwargs = {name: self._low(value) for name, value in kwargs.items()}
        elif func is F.batch_norm:  # its sums are those of fp32
            inputs, *others = args
            return func(inputs.float(), *others, **kwargs).to(inputs.dtype)
        return func(*args, **kwargs)

    def _low(self, value: Any) -> Any:
        return value.to(self._dtype) if isinstance(value, Tensor) else value
