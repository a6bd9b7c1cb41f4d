"""One network, and its optimizer, with several sets of weights: rows, each with a batch of its own.

Row r of all that comes out depends on row r of what goes in, whatever the others hold. Its bits do
depend on the number of rows: convolutions and matrix products choose their order of summing by it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from sms_dist.engines.optimizers import OptimizerSettings

CountedLoss = Callable[[Any, Tensor], tuple[Tensor, Tensor]]
"""(outputs, targets) -> the summed loss, and what else is counted"""
LOW = (torch.conv1d, torch.conv2d, torch.conv3d, F.linear)


class RowNetwork:
    """The forward pass of one network for many rows of weights.

    A row is the parameters of one copy of the network that are trained, one after another. Frozen
    ones are among the buffers.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Compute as `model` does; its own weights are not used."""
        self._model, self._dtype = model, dtype
        self._shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        self._sizes = [shape.numel() for shape in self._shapes.values()]
        self._device = next(model.parameters()).device

    def row(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the tensors of all parameters as a row, [P]."""
        return torch.cat([tensors[name].detach().flatten() for name in self._shapes])

    def named(self, row: Tensor) -> dict[str, Tensor]:
        """Return the parameters of a row, as views of it."""
        pieces = torch.split(row, self._sizes)
        return {n: p.view(s) for (n, s), p in zip(self._shapes.items(), pieces, strict=True)}

    def losses(
        self,
        rows: Tensor,
        buffers: Mapping[str, Tensor],
        inputs: Sequence[Tensor],
        targets: Tensor,
        loss: CountedLoss,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the loss of every row on its batch, [R], what else is counted, [R, ...], and the
        buffers that are replaced by other tensors.

        The first dim of all arguments is the row. The other buffers, as of batch norm, are changed.
        """

        def one(
            row: dict[str, Tensor],
            own: Mapping[str, Tensor],
            inputs: tuple[Tensor, ...],
            targets: Tensor,
        ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
            tensors = {**row, **own}  # where it is assigned to, a buffer is another afterwards
            with self._precision():
                outputs = functional_call(self._model, tensors, inputs)
                new = {n: tensors[n].detach() for n in own if tensors[n] is not own[n]}
                return (*loss(outputs, targets), new)

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
    """Do what autocast does to operations that vmap takes apart before autocast sees them."""

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


BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # PyTorch's defaults for AdamW


class RowOptimizer(ABC):
    """The mathematics of an optimizer, with a row [P] of weights for each candidate."""

    def __init__(self, settings: Sequence[OptimizerSettings], like: Tensor) -> None:
        """Take the settings of each row; they differ in weight decay (and Nesterov) only."""
        self._like = like
        self.memory: dict[str, Tensor] = {}  # [R, P] each: the state from the steps before
        self._columns = {"decay": self._column([each.weight_decay for each in settings])}

    @abstractmethod
    def step_(
        self, weights: Tensor, gradients: Tensor, rates: Sequence[float], num_steps: Sequence[int]
    ) -> None:
        """Take one step of every row, in place; `num_steps` are those it has taken before."""

    def narrow(self, rows: Tensor) -> None:
        """Keep these rows only."""
        self.memory = {name: tensor[rows] for name, tensor in self.memory.items()}
        self._columns = {name: tensor[rows] for name, tensor in self._columns.items()}

    def _column(self, values: Sequence[float]) -> Tensor:
        """Return the values as a column, [R, 1]."""
        return torch.tensor(values, dtype=self._like.dtype, device=self._like.device)[:, None]


class RowSgd(RowOptimizer):
    """SGD, with or without momentum."""

    def __init__(self, settings: Sequence[OptimizerSettings], like: Tensor) -> None:
        super().__init__(settings, like)
        self._momentum = settings[0].momentum
        if self._momentum:
            self.memory["momentum"] = torch.zeros_like(like)
            # the step is gradient + momentum * buffer (Nesterov), or the buffer
            nesterov = [each.nesterov for each in settings]
            self._columns["of_gradient"] = self._column([float(one) for one in nesterov])
            ahead = [self._momentum if one else 1.0 for one in nesterov]
            self._columns["of_buffer"] = self._column(ahead)

    def step_(
        self, weights: Tensor, gradients: Tensor, rates: Sequence[float], num_steps: Sequence[int]
    ) -> None:
        columns = self._columns
        step = gradients.addcmul_(weights, columns["decay"])
        if self._momentum:
            buffer = self.memory["momentum"].mul_(self._momentum).add_(step)
            step.mul_(columns["of_gradient"]).addcmul_(buffer, columns["of_buffer"])
        weights.addcmul_(step, self._column([-rate for rate in rates]))


class RowAdamW(RowOptimizer):
    """AdamW."""

    def __init__(self, settings: Sequence[OptimizerSettings], like: Tensor) -> None:
        super().__init__(settings, like)
        self.memory = {name: torch.zeros_like(like) for name in ("mean", "mean_square")}

    def step_(
        self, weights: Tensor, gradients: Tensor, rates: Sequence[float], num_steps: Sequence[int]
    ) -> None:
        sizes = [rate / (1 - BETA_1 ** (n + 1)) for rate, n in zip(rates, num_steps, strict=True)]
        roots = self._column([(1 - BETA_2 ** (n + 1)) ** 0.5 for n in num_steps])
        weights.mul_(1 - self._column(rates) * self._columns["decay"])
        mean = self.memory["mean"].lerp_(gradients, 1 - BETA_1)
        squares = self.memory["mean_square"].mul_(BETA_2)
        squares.addcmul_(gradients, gradients, value=1 - BETA_2)
        step = mean / squares.sqrt().div_(roots).add_(EPSILON)
        weights.addcmul_(step, self._column([-size for size in sizes]))


ROW_OPTIMIZERS: dict[str, type[RowOptimizer]] = {"sgd": RowSgd, "adamw": RowAdamW}
