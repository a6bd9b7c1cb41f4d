"""The mask on gradients: pruned weights get none, so that every optimizer leaves them at zero."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from sms_dist.pruning.mask import Mask, apply_

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes, as wide as a gradient


class GradientMask:
    """Zeroes the pruned weights, and on demand their gradients: of all tensors in one operation.

    That is a product of integers: the bits of a gradient times one or zero. What is pruned becomes
    +0.0 whatever stood there; floats would keep NaN, infinity times zero, and the sign of zero.
    Keeps as many bytes for a prunable weight as its gradient has.
    """

    def __init__(self, model: nn.Module, mask: Mask) -> None:
        parameters = dict(model.named_parameters())
        apply_({name: p.detach() for name, p in parameters.items()}, mask)
        pruned = {parameters[name]: kept for name, kept in mask.items() if not kept.all()}
        self._parameters = list(pruned)
        self._kept = [_as_integers(kept, parameter) for parameter, kept in pruned.items()]

    @property
    def prunes(self) -> bool:
        """Is there anything to do?"""
        return bool(self._parameters)

    def weights_(self) -> None:
        """Set the pruned weights to zero: some optimizers move weights that have no gradient."""
        if self._parameters:
            pairs = zip(self._parameters, self._kept, strict=True)
            torch._foreach_mul_([p.detach().view(k.dtype) for p, k in pairs], self._kept)

    def gradients_(self) -> None:
        """Of the model, in place; those there are."""
        pairs = zip(self._parameters, self._kept, strict=True)
        here = [(p.grad.view(kept.dtype), kept) for p, kept in pairs if p.grad is not None]
        if here:
            gradients, kept = zip(*here, strict=True)
            torch._foreach_mul_(gradients, kept)


def hold_mask(model: nn.Module, mask: Mask) -> None:
    """Zero the pruned weights and let no gradient reach them, by hooks.

    For engines that reduce gradients while they arrive; before they wrap the model.
    """
    parameters = dict(model.named_parameters())
    apply_({name: p.detach() for name, p in parameters.items()}, mask)
    for name, kept in mask.items():
        hook = partial(_without, ~kept)
        parameters[name].register_hook(hook)  # type: ignore[no-untyped-call]


def _without(pruned: Tensor, gradient: Tensor) -> Tensor:
    return gradient.masked_fill(pruned, 0)


def _as_integers(kept: Tensor, parameter: Tensor) -> Tensor:
    """Laid out in memory as the parameter and its gradient are."""
    dtype = INTEGERS[parameter.element_size()]
    return torch.empty_like(parameter, dtype=dtype, requires_grad=False).copy_(kept)
