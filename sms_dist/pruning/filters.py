"""Filter pruning: whole output filters of convolutions go, with all that belongs to them."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError
from torch.nn.modules.batchnorm import _BatchNorm

from sms_dist.pruning.allocation import is_convolution, num_kept
from sms_dist.pruning.mask import Mask, Tensors

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPARENT = (nn.Identity, nn.modules.dropout._DropoutNd)  # channels pass, zeros stay zero


def keep_filters(tensors: Tensors, mask: Tensors, sparsity: float) -> Mask:
    """Return a tighter mask: every convolution loses round(sparsity * filters) filters in all.

    Those of smallest L2 norm among the living go; of equal ones the lower index stays. Linear
    layers stay as they are.
    """
    return Mask(
        {
            name: _tightened(tensors[name], alive, sparsity)
            if is_convolution(alive.shape)
            else alive.clone()
            for name, alive in mask.items()
        }
    )


def living_filters(alive: Tensor) -> Tensor:
    """Return which filters of a convolution's mask have a weight left: bool [filters]."""
    return alive.flatten(1).any(dim=1)


def _tightened(weight: Tensor, alive: Tensor, sparsity: float) -> Tensor:
    squares = weight.detach().double().masked_fill(~alive, 0).square()
    norms = squares.flatten(1).sum(dim=1).masked_fill(~living_filters(alive), -1)
    order = norms.sort(descending=True, stable=True).indices
    stays = torch.zeros(len(norms), dtype=torch.bool, device=alive.device)
    stays[order[: num_kept(len(norms), sparsity)]] = True
    return alive & stays.view(-1, *[1] * (alive.ndim - 1))


def companions(model: nn.Module, mask: Tensors) -> Mask:
    """Return the mask, and with it biases and batch norm channels of filters without any weight.

    Held at zero they make the channel exactly zero. Only a batch norm that gets the output of one
    convolution and nothing else counts; where an addition comes first, the bias is all there is.
    """
    living = {
        name: living_filters(alive) for name, alive in mask.items() if is_convolution(alive.shape)
    }
    if all(bool(filters.all()) for filters in living.values()):
        return Mask(mask)
    held = dict(mask)
    for node in traced(model, "pruning.pattern=filters").graph.nodes:
        filters = living.get(f"{node.target}.weight")
        if filters is None or not isinstance(module_of(node), CONVOLUTIONS):
            continue
        for each in (node, _norm_after(node)):
            module = None if each is None else module_of(each)
            if each is not None and module is not None:
                for key, value in module.named_parameters(recurse=False):
                    if value.ndim == 1:  # a value per filter, and not in the mask already
                        held[f"{each.target}.{key}"] = filters.clone()
    return Mask(held)


def _norm_after(node: fx.Node) -> fx.Node | None:
    """Return the batch norm that alone uses the node's value."""
    while len(node.users) == 1:
        (node,) = node.users
        module = module_of(node)
        if isinstance(module, _BatchNorm):
            return node
        if not isinstance(module, _TRANSPARENT):
            break
    return None


def traced(model: nn.Module, purpose: str) -> fx.GraphModule:
    """Return the model with the graph of its calls; ValueError where these depend on values.

    `purpose` begins the error.
    """
    try:
        return fx.symbolic_trace(model)
    except TraceError as error:
        raise ValueError(
            f"{purpose} follows the calls of the model, and {type(model).__name__} decides on them "
            f"by the values of tensors ({error})"
        ) from None


def module_of(node: fx.Node) -> nn.Module | None:
    """Return the module that a node alone calls, None where it calls something else.

    None also for a module that shares a parameter with another one.
    """
    if node.op != "call_module":
        return None
    calls = [other for other in node.graph.nodes if other.op == node.op]
    if sum(other.target == node.target for other in calls) > 1:
        return None
    owner = node.graph.owning_module
    assert owner is not None
    module = owner.get_submodule(str(node.target))
    own = {id(p) for p in module.parameters()}
    every = (p for other in owner.modules() for p in other.parameters(recurse=False))
    return None if sum(id(p) in own for p in every) > len(own) else module
