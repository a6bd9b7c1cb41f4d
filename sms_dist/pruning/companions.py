"""What belongs to a dead filter: its bias, and its channel in the batch norm that follows."""

from __future__ import annotations

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sms_dist.pruning.filters import living_filters
from sms_dist.pruning.mask import Mask
from sms_dist.pruning.shares import is_convolution
from sms_dist.pruning.tracing import module_of, traced

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPARENT = (nn.Identity, nn.modules.dropout._DropoutNd)  # channels pass, zeros stay zero


def companions(model: nn.Module, mask: Mask) -> Mask:
    """The mask, and with it the biases and batch norm channels of filters that have no weight left.

    Held at zero they make the channel exactly zero. Only a batch norm that sees the output of one
    convolution and nothing else counts; where an addition comes first, the bias is all there is.
    """
    living = {
        name: living_filters(alive) for name, alive in mask.items() if is_convolution(alive.shape)
    }
    if all(bool(filters.all()) for filters in living.values()):
        return dict(mask)
    found: Mask = {}
    for node in traced(model, "pruning.pattern=filters").graph.nodes:
        filters = living.get(f"{node.target}.weight")
        convolution = module_of(node)
        if filters is not None and isinstance(convolution, _CONVOLUTIONS):
            found |= _affine(str(node.target), convolution, filters)
            norm = _norm_after(node)
            if norm is not None:
                found |= _affine(str(norm.target), module_of(norm), filters)
    return mask | found


def _affine(name: str, module: nn.Module | None, filters: Tensor) -> Mask:
    """The parameters with a value per filter, none of them in the mask already."""
    values = module.named_parameters(recurse=False) if module is not None else ()
    return {f"{name}.{key}": filters.clone() for key, value in values if value.ndim == 1}


def _norm_after(node: fx.Node) -> fx.Node | None:
    """The batch norm that alone uses the node's value."""
    while len(node.users) == 1:
        (node,) = node.users
        module = module_of(node)
        if isinstance(module, _BatchNorm):
            return node
        if not isinstance(module, _TRANSPARENT):
            break
    return None
