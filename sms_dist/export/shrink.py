"""A smaller model that computes the same: channels that are always zero are taken out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sms_dist.base.randomness import stream
from sms_dist.export.operations import graph_of, kind
from sms_dist.export.removable import removable
from sms_dist.models.state import bare_state
from sms_dist.pruning.tracing import module_of

_SAMPLES = 4
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def shrunk_state(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, Tensor]:
    """The state of the model, which is in evaluation mode, without the removable channels."""
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
    """Give the layers tensors of these shapes, the contents of which are to be loaded."""
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
    """Between the outputs for a few random inputs, both models in evaluation mode.

    In double precision, where rounding hides nothing: the same models differ by 1e-12, not by 1e-5.
    """
    generator = stream(0, "export").generator()
    values = torch.randn(_SAMPLES, *input_shape, dtype=torch.float64, generator=generator)
    inputs = values.to(next(model.parameters()).device)
    with torch.no_grad():
        outputs = [copy.deepcopy(one).double().eval()(inputs) for one in (model, other)]
    return float((outputs[0] - outputs[1]).abs().max())


def _note_sizes_(module: nn.Module) -> None:
    """Layers show their sizes, and some check them."""
    if isinstance(module, _CONVOLUTIONS):
        module.out_channels, module.in_channels = module.weight.shape[:2]
        module.in_channels *= module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _BatchNorm) and module.running_mean is not None:
        module.num_features = len(module.running_mean)
