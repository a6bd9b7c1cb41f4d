"""The weight matrices of a module: which there are, which are pruned, and how they compute.

A weight matrix is a tensor that inputs are multiplied by. It is pruned through the parameter that
holds it. Where a layer computes it from that (weight norm, spectral norm, `torch.nn.utils.prune`),
scores are those of the effective weight, and zeros are set in the parameter behind it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from sms_dist.pruning.feasible import KEPT_DENSE, without

Shape = tuple[int, ...]
M = TypeVar("M", bound=nn.Module)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _NormBase)
# Names of what is added, looked up or taken element by element.
_TABLE = re.compile(
    r"(?:^|_)(?:pos|position|positions|positional|rel|relative|token|tokens|cls|bias|biases|table"
    r"|tables|mask|scale|scales|gamma|[a-z]*embed|[a-z]*embeds|[a-z]*embeddings?)(?:$|[_\d])"
)
_UNKNOWN = "may be a weight matrix"
_REFILLED = "is used through a function of it, where a zero does not stay a zero"


@dataclass(frozen=True)
class Weight:
    """A parameter of at least two dims larger than 1, and what it is in its layer."""

    name: str  # of the parameter
    path: str  # of the module that computes with it
    leaf: str  # that module's name for the effective weight
    kind: str
    shape: Shape
    dense: str = ""  # why it is not pruned; empty if it is
    unclear: str = ""  # why it can neither be pruned nor be left dense without a word
    is_convolution: bool = False
    inputs_first: int = 0  # of so many groups; 0: outputs come first
    # The dims along which a norm divides the weight: all zeros of a part would be 0 / 0.
    parts: tuple[int, ...] | None = None

    @property
    def is_pruned(self) -> bool:
        """Return whether the weight is pruned."""
        return not self.dense and not self.unclear

    @property
    def is_plain(self) -> bool:
        """Return whether the parameter itself is a matrix or a filter, outputs first."""
        own = self.name == f"{self.path}.{self.leaf}".lstrip(".")
        is_flat = len(self.shape) == 2 or self.is_convolution
        return own and is_flat and not self.inputs_first and self.parts is None

    @property
    def matrix_shape(self) -> Shape:
        """Return the shape with outputs first, which patterns and allocations go by."""
        return tuple(self.outputs_first(torch.empty(self.shape, device="meta")).shape)

    def effective(self, model: nn.Module) -> Tensor:
        """Return what the layer computes with, as in evaluation; nothing in the model changes."""
        module = model.get_submodule(self.path)
        if parametrize.is_parametrized(module, self.leaf):
            return _in_evaluation(_computed(module, self.leaf))
        hook = _hook(module, self.leaf)
        weight: Tensor = model.get_parameter(self.name)
        if isinstance(hook, BasePruningMethod):
            weight = hook.apply_mask(module)  # type: ignore[no-untyped-call]
        elif isinstance(hook, SpectralNorm):
            weight = hook.compute_weight(module, do_power_iteration=False)
        elif isinstance(hook, WeightNorm):
            weight = hook.compute_weight(module)
        return weight

    @torch.no_grad()
    def renew_(self, model: nn.Module) -> None:
        """Set what a layer computed before its parameter changed, and would show until it runs."""
        module = model.get_submodule(self.path)
        if _hook(module, self.leaf) is not None:
            setattr(module, self.leaf, self.effective(model))

    def outputs_first(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the weight's shape as [outputs, inputs] or [filters, channels, ...].

        It is a view or a copy.
        """
        if self.inputs_first:
            tensor = _swapped(tensor, self.inputs_first)
        return tensor if self.is_convolution or tensor.ndim == 2 else tensor.flatten(0, -2)

    def as_stored(self, tensor: Tensor) -> Tensor:
        """Return the inverse of `outputs_first`."""
        return _swapped(tensor, self.inputs_first) if self.inputs_first else tensor.view(self.shape)


def _swapped(tensor: Tensor, groups: int) -> Tensor:
    """Swap inputs and outputs, whichever come first, within each group."""
    return tensor.reshape(groups, -1, *tensor.shape[1:]).transpose(1, 2).flatten(0, 1)


def weights(
    model: nn.Module,
    keep_dense: Sequence[str] = (),
    *,
    embeddings: bool = False,
    multiplied: Callable[[], Collection[str]] | None = None,
    refilled: Collection[str] = (),
) -> list[Weight]:
    """Return the weights that are pruned, in the order of layers, and then all others.

    Tensors that are tied count once. `keep_dense` names weights, layers or patterns of names
    (ValueError for one that names nothing). `multiplied` returns the names of the parameters that
    inputs are multiplied by in a forward pass; it is asked only about tensors of unknown kind.
    `refilled` names those from which layers compute weights without their zeros. A tensor that
    stays unclear, and is not kept dense, is a ValueError.
    """
    every = list(_all(model, embeddings))
    if multiplied is not None and any(each.unclear == _UNKNOWN for each in every):
        names = multiplied()
        every = [_seen(each, names) if each.unclear == _UNKNOWN else each for each in every]
    every = [
        replace(each, unclear=_REFILLED) if each.name in refilled and each.is_pruned else each
        for each in every
    ]
    left = set(without([each.name for each in every if not each.dense], keep_dense))
    marked = [
        each if each.dense or each.name in left else replace(each, dense=KEPT_DENSE, unclear="")
        for each in every
    ]
    unclear = [each for each in marked if each.unclear]
    for each in unclear:
        names = _patterns([w.name for w in unclear], [w.name for w in marked if w.is_pruned])
        raise ValueError(
            f"{each.name} of shape {tuple(each.shape)} ({each.kind}) {each.unclear}; name it in "
            f"pruning.keep_dense to leave it dense: pruning.keep_dense=[{', '.join(names)}]"
        )
    return sorted(marked, key=lambda each: not each.is_pruned)  # stable


def _patterns(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return names or, where no other one matches, patterns of names that differ in numbers."""
    short = dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", "*", name) for name in names)
    patterns: list[str] = []
    for pattern in short:
        those = [name for name in names if fnmatchcase(name, pattern)]
        is_safe = len(those) > 1 and not any(fnmatchcase(name, pattern) for name in others)
        patterns += [pattern] if is_safe else those
    return list(dict.fromkeys(patterns))


def _seen(weight: Weight, multiplied: Collection[str]) -> Weight:
    if weight.name in multiplied:
        return replace(weight, unclear="")
    return replace(weight, unclear="", dense="no matrix product uses it")


def _all(model: nn.Module, embeddings: bool) -> Iterator[Weight]:
    """Yield each parameter that may be a weight matrix, in the order of layers."""
    first = {parameter: name for name, parameter in model.named_parameters()}
    done: set[str] = set()
    for weight in _layers(model, first):
        if weight.name not in done:
            done.add(weight.name)
            yield replace(weight, dense="") if embeddings else weight
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            name = first[parameter]
            if name not in done and len(larger_dims(parameter)) > 1:
                done.add(name)
                yield _other(module, path, name, parameter)


def _layers(model: nn.Module, first: dict[nn.Parameter, str]) -> Iterator[Weight]:
    """Yield the weights of layers that are known to multiply by them, and embeddings."""
    tried: dict[Any, bool] = {}
    for path, module in model.named_modules():
        for leaf in _leaves(module):
            weight = Weight("", path, leaf, _kind(module), ())
            if isinstance(module, _TRANSPOSED):
                weight = replace(weight, is_convolution=True, inputs_first=module.groups)
            elif isinstance(module, _CONVOLUTIONS):
                weight = replace(weight, is_convolution=True)
            elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
                weight = replace(weight, dense="embedding")
            elif _is_conv1d(module):
                weight = replace(weight, inputs_first=1)
            holder = _holder(module, leaf, weight)
            if holder is not None:
                parameter, weight = holder
                if leaf in module._parameters and not _uses_as_stored(module, leaf, tried):
                    weight = replace(weight, unclear=_REFILLED)
                yield replace(weight, name=first[parameter], shape=tuple(parameter.shape))


def _leaves(module: nn.Module) -> Sequence[str]:
    """Return the names of the matrices that a layer multiplies by."""
    layers = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, *_CONVOLUTIONS, *_TRANSPOSED)
    if isinstance(module, layers) or _is_conv1d(module):
        return ("weight",)
    if isinstance(module, nn.MultiheadAttention):
        return _ATTENTION
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        names = [*module._parameters, *getattr(module, "parametrizations", ())]
        plain = [re.sub(r"(_orig|_v)$", "", name) for name in names if name.startswith("weight_")]
        return [name for name in dict.fromkeys(plain) if not name.endswith("_g")]
    own: Sequence[str] = getattr(module, "weight_matrices", ())
    return own


def _is_conv1d(module: nn.Module) -> bool:
    """Return whether it is transformers' layer of GPT-2: linear, and inputs come first."""
    return any(
        kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")
        for kind in type(module).__mro__
    )


def _kind(module: nn.Module) -> str:
    is_parametrized = parametrize.is_parametrized(module)
    return type(module).__mro__[1 if is_parametrized else 0].__name__


def _holder(module: nn.Module, leaf: str, weight: Weight) -> tuple[nn.Parameter, Weight] | None:
    """Return the parameter behind a weight, and what is known then; None if there is no weight."""
    if parametrize.is_parametrized(module, leaf):
        return _parametrized(_computed(module, leaf), weight)
    hook, own = _hook(module, leaf), module.get_parameter
    if isinstance(hook, WeightNorm):
        parts = larger_dims(own(f"{leaf}_g"))
        return own(f"{leaf}_v"), replace(weight, parts=parts, kind=f"{weight.kind}, weight norm")
    if isinstance(hook, SpectralNorm):
        return own(f"{leaf}_orig"), replace(weight, parts=(), kind=f"{weight.kind}, spectral norm")
    if isinstance(hook, BasePruningMethod):
        return own(f"{leaf}_orig"), replace(weight, kind=f"{weight.kind}, torch's prune")
    parameter = module._parameters.get(leaf)
    return None if parameter is None else (parameter, weight)


def _uses_as_stored(module: nn.Module, leaf: str, tried: dict[Any, bool]) -> bool:
    """Return whether a layer computes as torch's do, or zeros of its weight stay zeros in use.

    One layer is tried of all of a class with the same options. Layers with one input for each
    output are not: all of their zeros would be a weight of zeros.
    """
    layers = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)
    known: Any = next(k for k in type(module).__mro__ if k.__module__.startswith("torch."))
    if not isinstance(module, layers) or type(module).forward is known.forward:
        return True
    if module.get_parameter(leaf).shape[_inputs_dim(module)] == 1:
        return True
    options = sorted((n, v) for n, v in vars(module).items() if isinstance(v, bool | str))
    alike = type(module), *options
    if alike not in tried:
        tried[alike] = _keeps_zeros(module, leaf)
    return tried[alike]


@torch.no_grad()
def _keeps_zeros(module: nn.Module, leaf: str) -> bool:
    """Return whether outputs ignore an input whose weights are zero, as far as a trial shows.

    Else the weight is standardised, shifted or otherwise changed before use.
    """
    layer, generator = cast("Any", module), torch.Generator().manual_seed(1)
    try:
        probe = _on_host(module).float()
        probe.get_parameter(leaf).select(_inputs_dim(module), 0).zero_()
        shape = [2, layer.in_features if isinstance(module, nn.Linear) else layer.in_channels]
        if not isinstance(module, nn.Linear):
            sizes = zip(layer.kernel_size, layer.dilation, strict=True)
            shape += [(size - 1) * step + 1 for size, step in sizes]
        inputs = torch.randn(shape, generator=generator)
        others = inputs.clone()
        others[:, 0] += 1
        return torch.allclose(probe(inputs), probe(others), rtol=1e-4, atol=1e-6)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError):
        return True  # it cannot be tried by itself; a step of the whole model shows more


def _inputs_dim(module: nn.Module) -> int:
    return 0 if isinstance(module, _TRANSPOSED) else 1


def _computed(module: nn.Module, leaf: str) -> parametrize.ParametrizationList:
    computed = module.get_submodule(f"parametrizations.{leaf}")
    assert isinstance(computed, parametrize.ParametrizationList)
    return computed


def _hook(module: nn.Module, leaf: str) -> Any:
    """Return what computes a weight before each forward, in the old way of torch.nn.utils."""
    kinds = (WeightNorm, SpectralNorm, BasePruningMethod)
    for hook in module._forward_pre_hooks.values():
        name = getattr(hook, "name", None) or getattr(hook, "_tensor_name", None)
        if isinstance(hook, kinds) and name == leaf:
            return hook
    return None


def _parametrized(
    computed: parametrize.ParametrizationList, weight: Weight
) -> tuple[nn.Parameter, Weight]:
    """Find by trial the parameter whose zeros are those of the effective weight."""
    names = [type(each).__name__.strip("_") for each in computed]
    weight = replace(weight, kind=f"{weight.kind}, {' and '.join(names)}")
    probe = _on_host(computed)
    for name, parameter in computed.named_parameters(recurse=False):
        if _zeros_stay(probe, name):
            return parameter, replace(weight, parts=_parts(probe, name))
    largest = max(computed.parameters(), key=Tensor.numel)
    problem = f"is computed by {' and '.join(names)}, where a zero does not stay a zero"
    return largest, replace(weight, unclear=problem)


def _on_host(module: M) -> M:
    """Return a copy to try things on, with random numbers for values that there are not."""
    probe, generator = copy.deepcopy(module), torch.Generator().manual_seed(0)
    tensors = [*probe.parameters(), *probe.buffers()]
    is_meta = any(tensor.is_meta for tensor in tensors)
    probe = (probe.to_empty(device="cpu") if is_meta else probe.cpu()).eval()
    with torch.no_grad():
        for tensor in [*probe.parameters(), *(probe.buffers() if is_meta else ())]:
            if tensor.is_floating_point():
                tensor.normal_(generator=generator)
            elif is_meta:
                tensor.zero_()
    return probe


@torch.no_grad()
def _zeros_stay(probe: parametrize.ParametrizationList, name: str) -> bool:
    """Return whether zeros of the parameter are zeros of the effective weight, and no others."""
    parameter = probe.get_parameter(name)
    if parameter.numel() < 2:
        return False
    before = parameter.clone()
    places = torch.zeros_like(parameter, dtype=torch.bool)
    places.view(-1)[[0, parameter.numel() // 2]] = True
    parameter.masked_fill_(places, 0.0)
    weight = probe()
    parameter.copy_(before)
    return torch.equal(weight == 0, places) and bool(weight.isfinite().all())


@torch.no_grad()
def _parts(probe: parametrize.ParametrizationList, name: str) -> tuple[int, ...] | None:
    """Return the dims of the norm that divides the parameter; None if nothing divides it."""
    parameter = probe.get_parameter(name)
    before = parameter.clone()
    is_finite = bool(parameter.zero_() is not None and probe().isfinite().all())
    parameter.copy_(before)
    if is_finite:
        return None
    others = [p for n, p in probe.named_parameters(recurse=False) if n != name]
    return larger_dims(others[0]) if others and others[0].ndim == parameter.ndim else ()


def larger_dims(tensor: Tensor) -> tuple[int, ...]:
    """Return the dims of a tensor that are larger than 1; a weight matrix has two at least."""
    return tuple(dim for dim, size in enumerate(tensor.shape) if size > 1)


@torch.no_grad()
def _in_evaluation(computed: nn.Module) -> Tensor:
    """Return what a module computes without arguments, in evaluation: no vector is iterated."""
    modes = {module: module.training for module in computed.modules()}
    weight: Tensor = computed.eval()()
    for module, mode in modes.items():
        module.training = mode
    return weight


def _other(module: nn.Module, path: str, name: str, parameter: nn.Parameter) -> Weight:
    """Return a tensor that no known layer multiplies by, and why it stays dense, if that is
    clear."""
    weight = Weight(name, path, name.rpartition(".")[2], _kind(module), tuple(parameter.shape))
    if isinstance(module, parametrize.ParametrizationList):
        owner, _, leaf = path.rpartition(".parametrizations.")
        _, weight = _parametrized(module, replace(weight, path=owner, leaf=leaf, kind="own"))
        return replace(weight, unclear=weight.unclear or _UNKNOWN)
    if isinstance(module, _NORMS):
        return replace(weight, dense="scale of a norm")
    word = re.sub(r"(\.\d+)+$", "", name).rpartition(".")[2].lower()
    if isinstance(module, nn.MultiheadAttention) or _TABLE.search(word):
        return replace(weight, dense="table, token or scale")
    return replace(weight, unclear=_UNKNOWN)


def survivor_in_each_part(
    kept: Tensor, weight: Tensor, alive: Tensor, parts: Sequence[int]
) -> Tensor | None:
    """Return the mask with as many weights, and one at least in each part that a norm divides.

    An empty part keeps its largest living weight; the smallest go elsewhere in the layer. None
    where there are fewer weights than parts. All have the shape of `weight`.
    """

    front = list(range(len(parts)))
    shape = weight.movedim(list(parts), front).shape

    def rows(tensor: Tensor) -> Tensor:
        return tensor.movedim(list(parts), front).reshape(shape[: len(parts)].numel(), -1)

    stays, size = rows(kept), rows(weight.abs())
    is_empty = ~stays.any(1, keepdim=True)
    pool = torch.where(is_empty, rows(alive), stays)
    best = torch.zeros_like(stays)
    best.scatter_(1, size.masked_fill(~pool, -1).argmax(1, keepdim=True), True)
    spare, missing = stays & ~best, int(is_empty.sum())
    if missing > int(spare.sum()):
        return None
    order = size.masked_fill(~spare, torch.inf).flatten().sort(stable=True).indices
    stays = stays | best
    stays.view(-1)[order[:missing]] = False
    return stays.reshape(shape).movedim(front, list(parts)).contiguous()
