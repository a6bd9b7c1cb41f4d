"""Which channels of a model's values are exactly zero, whatever the model is given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx
from torch.nn.modules.batchnorm import _BatchNorm

from sms_dist.export.operations import Kind, kind, shape_of
from sms_dist.pruning.tracing import module_of

Dead = dict[fx.Node, Tensor]  # bool, an entry per channel (dim 1 of the value)


def dead_channels(graph: fx.Graph) -> Dead:
    """For every value with channels; what is not known to be zero is not."""
    dead: Dead = {}
    for node in graph.nodes:
        rule = _RULES.get(kind(node))
        if rule is not None:
            dead[node] = rule(node, [dead[source] for source in node.all_input_nodes])
        elif len(shape_of(node)) > 1:
            dead[node] = torch.zeros(shape_of(node)[1], dtype=torch.bool)
    return dead


def _layer(node: fx.Node, inputs: list[Tensor]) -> Tensor:
    """No weight on a living input, and no bias."""
    module = module_of(node)
    assert module is not None
    weight, bias = module.get_parameter("weight").detach().cpu(), getattr(module, "bias", None)
    silent = (weight[:, ~inputs[0]] == 0).flatten(1).all(dim=1)
    return silent if bias is None else silent & (bias.detach().cpu() == 0)


def _norm(node: fx.Node, inputs: list[Tensor]) -> Tensor:
    """Nothing is added, and what is scaled is zero or the scale is."""
    norm = module_of(node)
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    dead = inputs[0] & (norm.running_mean.cpu() == 0)
    if not norm.affine:
        return dead
    scale, shift = norm.weight.detach().cpu(), norm.bias.detach().cpu()
    return (dead | (scale == 0)) & (shift == 0)


def _same(node: fx.Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0]


def _add(node: fx.Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0] & inputs[1]


def _flatten(node: fx.Node, inputs: list[Tensor]) -> Tensor:
    return inputs[0].repeat_interleave(shape_of(node)[1] // len(inputs[0]))


_RULES: dict[Kind, Callable[[fx.Node, list[Tensor]], Tensor]] = {
    "layer": _layer,
    "norm": _norm,
    "same": _same,
    "add": _add,
    "flatten": _flatten,
}
