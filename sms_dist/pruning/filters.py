"""Filter pruning: whole output filters of convolutions go, the same fraction in every layer."""

from __future__ import annotations

import torch
from torch import Tensor

from sms_dist.pruning.apportion import num_kept
from sms_dist.pruning.mask import Mask, Tensors
from sms_dist.pruning.shares import is_convolution


def keep_filters(tensors: Tensors, mask: Mask, sparsity: float) -> Mask:
    """A tighter mask: every convolution loses round(sparsity * filters) filters in all.

    Those with the smallest L2 norm among the living; of equal ones the lower index stays. Linear
    layers stay as they are.
    """
    return {
        name: _kept(tensors[name], alive, sparsity)
        if is_convolution(alive.shape)
        else alive.clone()
        for name, alive in mask.items()
    }


def living_filters(alive: Tensor) -> Tensor:
    """Which filters of a convolution's mask have a weight left."""
    return alive.flatten(1).any(dim=1)


def _kept(weight: Tensor, alive: Tensor, sparsity: float) -> Tensor:
    squares = weight.detach().double().masked_fill(~alive, 0).square()
    norms = squares.flatten(1).sum(dim=1).masked_fill(~living_filters(alive), -1)
    order = norms.sort(descending=True, stable=True).indices
    stays = torch.zeros(len(norms), dtype=torch.bool, device=alive.device)
    stays[order[: num_kept(len(norms), sparsity)]] = True
    return alive & stays.view(-1, *[1] * (alive.ndim - 1))
