"""Theoretical speedup: multiply-accumulates of the dense model over those that pruning leaves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sms_dist.pruning.layers import larger_dims

FEWEST_ZEROS = 0.25  # of what a layer computes from a weight of which half is zero
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


class Products(NamedTuple):
    """How matrix products use the parameters, by name."""

    multiplied: frozenset[str]  # inputs are multiplied by them
    refilled: frozenset[str]  # products take a function of them that is not zero where they are


def products(model: nn.Module, inputs: tuple[Tensor, ...]) -> Products:
    """Return how a model on the meta device uses its parameters; inputs are as for `macs`.

    Where layers compute their weights, a forward pass with random numbers shows what becomes of
    zeros: a weight that is standardised, for example, has none.
    """
    trace = _traced(model, inputs)
    refilled = frozenset[str]()
    if trace.computed:
        zeros = _traced(model, inputs, half_zero=trace.computed).computed
        refilled = frozenset(name for name, share in zeros.items() if share < FEWEST_ZEROS)
    return Products(frozenset(trace.multiplied), refilled)


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows which values depend on inputs, and from which parameters all others are computed.

    Values are known by their memory, which views share.
    """

    def __init__(self, counter: FlopCounterMode, model: nn.Module, tensors: Mapping[str, Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops: dict[str, int] = {}
        self.multiplied: set[str] = set()
        self.computed: dict[str, float] = {}  # weight -> share of zeros in what is computed from it
        self._plain = {_memory(tensor) for tensor in tensors.values()}
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
            if data:
                self._note_computed(operands)
        if any(_memory(tensor) in self._data for tensor in given):
            for tensor in made:
                self.is_data(tensor)
        else:
            for tensor in made:
                place = _memory(tensor)
                self._sources[place] = weights | self._sources.get(place, frozenset())
            self._alive += made
        return outputs

    def _note_computed(self, operands: list[Tensor]) -> None:
        for operand in operands:
            place = _memory(operand)
            sources = self._sources.get(place, frozenset())
            if place not in self._plain and place not in self._data and len(sources) == 1:
                (name,) = sources
                zeros = 1.0 if operand.is_meta else float((operand == 0).double().mean())
                self.computed[name] = min(zeros, self.computed.get(name, 1.0))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _traced(
    model: nn.Module, inputs: tuple[Tensor, ...], half_zero: Collection[str] = ()
) -> _Trace:
    """Return the trace of a forward pass; with random numbers if weights shall be `half_zero`."""

    def trace(tensors: Mapping[str, Tensor], given: tuple[Tensor, ...]) -> _Trace:
        counter = FlopCounterMode(display=False)
        weights = {name: tensors[name] for name, _ in model.named_parameters()}
        trace = _Trace(counter, model, weights)
        for values in given:
            trace.is_data(values)
        # MATH: what a fused kernel pads depends on the machine
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter, trace:
            functional_call(model, dict(tensors), given)
        return trace

    modes = {module: module.training for module in model.modules()}
    every = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    try:
        model.eval()
        with torch.random.fork_rng(devices=[]):
            if half_zero:
                torch.default_generator.manual_seed(0)
                values = {name: _random(t, name in half_zero) for name, t in every.items()}
                return trace(values, tuple(torch.zeros_like(x, device="cpu") for x in inputs))
            try:
                moved = {name: tensor.to("meta") for name, tensor in every.items()}
                return trace(moved, tuple(values.to("meta") for values in inputs))
            except (RuntimeError, NotImplementedError) as error:
                if "meta" not in str(error):  # else it asks for values, which are zeros then
                    raise
            zeros = {name: torch.zeros_like(tensor, device="cpu") for name, tensor in every.items()}
            return trace(zeros, tuple(torch.zeros_like(each, device="cpu") for each in inputs))
    finally:
        for module, mode in modes.items():
            module.training = mode


def _random(like: Tensor, is_half_zero: bool) -> Tensor:
    if not (like.is_floating_point() or like.is_complex()):
        return torch.zeros_like(like, device="cpu")
    values = torch.randn(like.shape, dtype=like.dtype, device="cpu")
    return values * (torch.rand(like.shape) < 0.5) if is_half_zero else values


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
