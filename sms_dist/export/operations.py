"""The kinds of calls through which channels can be followed; everything else is "other"."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sms_dist.pruning.tracing import module_of, traced

# layer: a convolution or linear layer, whose outputs are channels of their own
# norm: batch norm; same: a zero channel stays zero, and none touches another
# add: two values of one shape; flatten: a channel becomes consecutive entries of dim 1
Kind: TypeAlias = Literal["layer", "norm", "same", "add", "flatten", "other"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_POINTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Identity, _DropoutNd)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
_POINTWISE_CALLS = {F.relu, torch.relu, F.dropout, "relu", "relu_", "contiguous"}
_POOL_CALLS = {F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d}
_BATCH, _CHANNEL = 0, 1  # dims


def graph_of(model: nn.Module, input_shape: tuple[int, ...]) -> fx.Graph:
    """The model's calls, each with the shape of its value; the model is in evaluation mode."""
    assert not model.training
    module = traced(model, "removing channels")
    parameter = next(model.parameters())
    inputs = torch.zeros(2, *input_shape, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        ShapeProp(module).propagate(inputs)
    return module.graph


def kind(node: fx.Node) -> Kind:
    """How the node's value follows from that of its inputs."""
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
    """The shape of the node's value; () where it is no tensor."""
    return tuple(getattr(node.meta.get("tensor_meta"), "shape", ()))


def _is_addition(node: fx.Node) -> bool:
    is_call = node.op == "call_function" and node.target in (operator.add, torch.add)
    return is_call and len({shape_of(n) for n in (node, *node.all_input_nodes)}) == 1


def _is_layer(node: fx.Node) -> bool:
    module, dims = module_of(node), len(shape_of(node))
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
    """From the channels on, to the end."""
    module, call = _called_module(node), _called(node)
    if not isinstance(module, nn.Flatten) and call not in (torch.flatten, "flatten"):
        return False
    before, after = shape_of(node.all_input_nodes[0]), shape_of(node)
    return len(after) == 2 and before[_BATCH] == after[_BATCH]


def _called_module(node: fx.Node) -> nn.Module | None:
    """Unlike module_of also where others call it: these have no parameters."""
    root = node.graph.owning_module
    assert root is not None
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _called(node: fx.Node) -> Any:
    return node.target if node.op in ("call_function", "call_method") else None
