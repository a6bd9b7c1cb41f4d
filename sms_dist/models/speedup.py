"""Theoretical speedup: multiply-accumulates of the dense model over those that pruning leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sms_dist.pruning.layers import larger_dims

OTHER = "other"  # products of no weight, or of several; no weight is called so
aten = torch.ops.aten
_ADDENDS = (aten.addmm, aten.baddbmm, aten.addmv)  # their first tensor is added, not multiplied
_UNCOUNTED = (aten.mv, aten.dot, aten._cdist_forward)  # no FLOPs are known of these


def macs(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """Return multiply-accumulates for one sample by the name of the weight that they multiply by.

    A weight counts where it computes, whatever layer calls it and however it is reparametrised. All
    other products, such as attention scores, are summed under `OTHER`.

    `inputs`, of any batch size, are what `model(*inputs)` takes. The model runs on the meta device,
    where nothing is computed, and as in evaluation: a head that only serves training does not
    count. Padding counts as input, as is usual.
    """
    trace = _traced(model, inputs)
    return {name: flops // 2 // len(inputs[0]) for name, flops in trace.flops.items()}


def multiplied(model: nn.Module, inputs: tuple[Tensor, ...]) -> set[str]:
    """Return the names of the parameters that inputs are multiplied by in matrix products."""
    return _traced(model, inputs).multiplied


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows which values depend on inputs, and from which parameters all others are computed.

    Values are known by their memory, which views share.
    """

    def __init__(self, counter: FlopCounterMode, model: nn.Module, tensors: Mapping[str, Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: dict[str, int] = {}
        self.multiplied: set[str] = set()
        layers = (nn.Linear, nn.modules.conv._ConvNd)
        self._layers = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, layers)}
        self._counter = counter
        self._sources = {
            _memory(tensor): frozenset([name] if len(larger_dims(tensor)) > 1 else [])
            for name, tensor in tensors.items()
        }
        self._data: set[int] = set()
        self._alive: list[Any] = []  # or memory would be used again

    def is_data(self, tensor: Tensor) -> None:
        """Mark a value that depends on inputs."""
        self._data.add(_memory(tensor))
        self._alive.append(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self._counter.get_total_flops()
        outputs = func(*args, **(kwargs or {}))
        flops = self._counter.get_total_flops() - before
        packet = func.overloadpacket
        given, made = _tensors((args, kwargs)), _tensors(outputs)
        operands = given[1:] if packet in _ADDENDS else given
        data = [tensor for tensor in operands if _memory(tensor) in self._data]
        weights = frozenset[str]().union(*(self._sources.get(_memory(t), ()) for t in operands))
        # An outer product: every input meets every weight.
        is_outer = packet is aten.mul and data and made[0].numel() > max(t.numel() for t in data)
        if flops or is_outer or packet in _UNCOUNTED:
            known = weights if data else weights & self._layers or weights
            name = next(iter(known)) if len(known) == 1 else OTHER
            self.flops[name] = self.flops.get(name, 0) + flops
            self.multiplied |= weights if data else set()
            weights = known
        if any(_memory(tensor) in self._data for tensor in given):
            for tensor in made:
                self.is_data(tensor)
        else:
            for tensor in made:
                place = _memory(tensor)
                self._sources[place] = weights | self._sources.get(place, frozenset())
            self._alive += made
        return outputs


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _traced(model: nn.Module, inputs: tuple[Tensor, ...]) -> _Trace:
    modes = {module: module.training for module in model.modules()}
    moved = {name: p.detach().to("meta") for name, p in model.named_parameters()}
    buffers = {name: buffer.to("meta") for name, buffer in model.named_buffers()}
    counter = FlopCounterMode(display=False)
    trace = _Trace(counter, model, moved)
    given = tuple(values.to("meta") for values in inputs)
    for values in given:
        trace.is_data(values)
    try:
        model.eval()
        # MATH: what a fused kernel pads depends on the machine
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter, trace:
            functional_call(model, moved | buffers, given)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return trace


def on_meta(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor]:
    """Return one sample of a shape (C, H, W for images) as the inputs of `macs`."""
    return (torch.empty(1, *shape, dtype=dtype, device="meta"),)


def theoretical_speedup(macs: Mapping[str, int], mask: Mapping[str, Tensor]) -> float:
    """Return F_d / F_s: a layer's part of F_s shrinks with its weights, the others' are dense."""
    sparse = sum(
        count * float(mask[name].float().mean(dtype=torch.float64)) if name in mask else count
        for name, count in macs.items()
    )
    return sum(macs.values()) / sparse
