"""A smaller model that computes the same: channels that are always zero are taken out."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sms_dist.base.randomness import stream
from sms_dist.pruning.filters import module_of, traced
from sms_dist.soups.states import bare_state

_SAMPLES = 4
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def shrunk_state(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the state of a model in evaluation mode without the removable channels."""
    graph = graph_of(model, input_shape)
    gone, state = removable(graph), bare_state(model)
    for node in graph.nodes:
        how, module = kind(node), module_of(node)
        if how not in ("layer", "norm") or module is None:
            continue
        (source,) = node.all_input_nodes
        for name in module.state_dict():
            key = f"{node.target}.{name}"
            if state[key].ndim:  # not the number of batches
                state[key] = state[key][~gone[node].to(state[key].device)]
            if how == "layer" and name == "weight":
                state[key] = state[key][:, ~gone[source].to(state[key].device)]
    return state


def resize_(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give the layers tensors of these shapes, whose contents are loaded afterwards."""
    for prefix, module in model.named_modules():
        own = chain(module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        for name, old in list(own):
            shape = shapes.get(f"{prefix}.{name}" if prefix else name, old.shape)
            if shape != old.shape:
                new = torch.empty(shape, dtype=old.dtype, device=old.device)
                is_parameter = isinstance(old, nn.Parameter)
                setattr(module, name, nn.Parameter(new) if is_parameter else new)
        _note_sizes_(module)


def largest_difference(model: nn.Module, other: nn.Module, input_shape: tuple[int, ...]) -> float:
    """Return the largest difference of two models' outputs for a few random inputs.

    In double precision, where rounding hides nothing: the same models differ by 1e-12, not by 1e-5.
    """
    generator = stream(0, "export").generator()
    values = torch.randn(_SAMPLES, *input_shape, dtype=torch.float64, generator=generator)
    inputs = values.to(next(model.parameters()).device)
    with torch.no_grad():
        outputs = [copy.deepcopy(one).double().eval()(inputs) for one in (model, other)]
    return float((outputs[0] - outputs[1]).abs().max())


def _note_sizes_(module: nn.Module) -> None:
    """Set the sizes that layers show, and that some check."""
    if isinstance(module, _CONVOLUTIONS):
        module.out_channels, module.in_channels = module.weight.shape[:2]
        module.in_channels *= module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _BatchNorm) and module.running_mean is not None:
        module.num_features = len(module.running_mean)


def removable(graph: fx.Graph) -> dict[fx.Node, Tensor]:
    """Return which entries of dim 1 of every value can go: bool tensors.

    Channels can go that are dead in every value of their *space*: values are in one space when they
    must have the same channels, as a batch norm's input and output, or the terms of a residual
    addition. A value that goes where channels are not understood keeps all. At least one channel of
    each space stays.
    """
    dead, spaces = dead_channels(graph), Spaces(graph)
    gone: dict[fx.Node, Tensor] = {}
    for space, members in spaces.members().items():
        entries = [dead[node].view(-1, spaces.block[node]).all(dim=1) for node in members]
        channels = torch.stack(entries).all(dim=0)
        if space in spaces.fixed:
            channels[:] = False
        elif channels.all():  # layers without channels do not work
            channels[0] = False
        gone |= {node: channels.repeat_interleave(spaces.block[node]) for node in members}
    return gone


class Spaces:
    """The space of every value, and how many entries of dim 1 one channel takes."""

    def __init__(self, graph: fx.Graph) -> None:
        self._space: dict[fx.Node, int] = {}
        self.block: dict[fx.Node, int] = {}
        self.fixed: set[int] = set()
        for index, node in enumerate(graph.nodes):
            self._enter(node, index)

    def members(self) -> dict[int, list[fx.Node]]:
        """Return the values of each space."""
        members: dict[int, list[fx.Node]] = {}
        for node, space in self._space.items():
            members.setdefault(space, []).append(node)
        return members

    def _enter(self, node: fx.Node, new: int) -> None:
        sources, how = [n for n in node.all_input_nodes if n in self._space], kind(node)
        if how == "add" and len({self.block[n] for n in sources}) > 1:
            how = "other"
        if len(shape_of(node)) > 1:
            self._space[node], self.block[node] = new, 1
        if how == "other":
            self.fixed.add(new)
            self.fixed |= {self._space[source] for source in sources}
        elif how != "layer":
            self.block[node] = self.block[sources[0]]
            if how == "flatten":
                self.block[node] *= shape_of(node)[1] // shape_of(sources[0])[1]
            for source in sources:
                self._join(self._space[source], self._space[node])

    def _join(self, old: int, new: int) -> None:
        self._space = {node: new if s == old else s for node, s in self._space.items()}
        if old in self.fixed:
            self.fixed.add(new)


Dead = dict[fx.Node, Tensor]  # bool, an entry per channel (dim 1 of the value)


def dead_channels(graph: fx.Graph) -> Dead:
    """Return which channels of every value are exactly zero, whatever the model is given."""
    dead: Dead = {}
    for node in graph.nodes:
        how = kind(node)
        inputs = [dead[source] for source in node.all_input_nodes] if how != "other" else []
        if how == "layer":
            dead[node] = _dead_of_layer(node, inputs[0])
        elif how == "norm":
            dead[node] = _dead_of_norm(node, inputs[0])
        elif how == "same":
            dead[node] = inputs[0]
        elif how == "add":
            dead[node] = inputs[0] & inputs[1]
        elif how == "flatten":
            dead[node] = inputs[0].repeat_interleave(shape_of(node)[1] // len(inputs[0]))
        elif len(shape_of(node)) > 1:  # not known to be zero
            dead[node] = torch.zeros(shape_of(node)[1], dtype=torch.bool)
    return dead


def _dead_of_layer(node: fx.Node, dead_inputs: Tensor) -> Tensor:
    """A layer's channel is zero without bias and without weights on living inputs."""
    module = module_of(node)
    assert module is not None
    weight, bias = module.get_parameter("weight").detach().cpu(), getattr(module, "bias", None)
    silent = (weight[:, ~dead_inputs] == 0).flatten(1).all(dim=1)
    return silent if bias is None else silent & (bias.detach().cpu() == 0)


def _dead_of_norm(node: fx.Node, dead_inputs: Tensor) -> Tensor:
    """A norm's channel is zero without shift where the scaled value or the scale is zero."""
    norm = module_of(node)
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    dead = dead_inputs & (norm.running_mean.cpu() == 0)
    if not norm.affine:
        return dead
    scale, shift = norm.weight.detach().cpu(), norm.bias.detach().cpu()
    return (dead | (scale == 0)) & (shift == 0)


# layer: a convolution or linear layer, whose outputs are channels of their own
# norm: batch norm; same: a zero channel stays zero, and none touches another
# add: two values of one shape; flatten: a channel becomes consecutive entries of dim 1
Kind: TypeAlias = Literal["layer", "norm", "same", "add", "flatten", "other"]

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Identity, _DropoutNd)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_POINTWISE_CALLS = {F.relu, torch.relu, F.dropout, "relu", "relu_", "contiguous"}
_POOL_CALLS = {F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d}
_BATCH, _CHANNEL = 0, 1  # dims


def graph_of(model: nn.Module, input_shape: tuple[int, ...]) -> fx.Graph:
    """Return the calls of a model in evaluation mode, each with the shape of its value."""
    assert not model.training
    module = traced(model, "removing channels")
    parameter = next(model.parameters())
    inputs = torch.zeros(2, *input_shape, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        ShapeProp(module).propagate(inputs)
    return module.graph


def kind(node: fx.Node) -> Kind:
    """Return how a node's value follows from those of its inputs."""
    sources = node.all_input_nodes
    if any(len(shape_of(n)) <= _CHANNEL for n in (node, *sources)):
        return "other"
    if len(sources) == 2 and _is_addition(node):
        return "add"
    if len(sources) != 1 or not node.args or node.args[0] is not sources[0]:
        return "other"
    kinds: dict[Kind, Callable[[fx.Node], bool]] = {
        "layer": _is_layer,
        "norm": _is_norm,
        "same": _is_same,
        "flatten": _is_flatten,
    }
    return next((name for name, is_kind in kinds.items() if is_kind(node)), "other")


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's value, () where it is no tensor."""
    return tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))


def _is_addition(node: fx.Node) -> bool:
    is_call = node.op == "call_function" and node.target in (operator.add, torch.add)
    return is_call and len({shape_of(n) for n in (node, *node.all_input_nodes)}) == 1


def _is_layer(node: fx.Node) -> bool:
    module, dims = module_of(node), len(shape_of(node))
    if module is None or "weight" not in module._parameters:  # it may be computed from others
        return False
    if isinstance(module, _CONVOLUTIONS):
        return module.groups == 1 and dims == module.weight.ndim
    return isinstance(module, nn.Linear) and dims == 2


def _is_norm(node: fx.Node) -> bool:
    module = module_of(node)
    return isinstance(module, _BatchNorm) and module.running_mean is not None


def _is_same(node: fx.Node) -> bool:
    module, call = _called_module(node), _called(node)
    if isinstance(module, _POOLS) or call in _POOL_CALLS:
        return len(shape_of(node)) == len(shape_of(node.all_input_nodes[0])) == 4
    is_pointwise = isinstance(module, _POINTWISE) or call in _POINTWISE_CALLS
    return is_pointwise or _is_mean_of_positions(node)


def _is_mean_of_positions(node: fx.Node) -> bool:
    if _called(node) not in (torch.mean, "mean"):
        return False
    wanted = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    num_dims = len(shape_of(node.all_input_nodes[0]))
    dims = [wanted] if isinstance(wanted, int) else wanted
    if not isinstance(dims, list | tuple) or not dims:
        return False
    return all(isinstance(dim, int) and dim % num_dims > _CHANNEL for dim in dims)


def _is_flatten(node: fx.Node) -> bool:
    """Return whether a call flattens from the channels on, to the end."""
    module, call = _called_module(node), _called(node)
    if not isinstance(module, nn.Flatten) and call not in (torch.flatten, "flatten"):
        return False
    before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
    return len(after) == 2 and before[_BATCH] == after[_BATCH]


def _called_module(node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls, also where others call it: it has no parameters."""
    root = node.graph.owning_module
    assert root is not None
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _called(node: fx.Node) -> Any:
    return node.target if node.op in ("call_function", "call_method") else None
