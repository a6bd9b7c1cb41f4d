"""Masks of the largest values of all tensors together."""

from __future__ import annotations

import torch
from torch import Tensor

from sms_dist.pruning.mask import Mask
from sms_dist.pruning.selection import find_cut
from sms_dist.sparse_rules.base import Tensors


@torch.no_grad()
def largest(tensors: Tensors, num_kept: int) -> Mask:
    """True for exactly `num_kept` values, the largest by magnitude; ties by (tensor, index).

    The mask of pruning with one global ranking, at a third of the cost: one cut for all layers.
    """
    keys = torch.cat(
        [tensor.float().abs().view(torch.int32).flatten() for tensor in tensors.values()]
    )
    cut = find_cut([keys], num_kept)
    kept = keys > cut.key
    kept[torch.nonzero(keys == cut.key).flatten()[: cut.num_ties]] = True
    parts = torch.split(kept, [tensor.numel() for tensor in tensors.values()])
    return {
        name: part.view(tensor.shape)
        for (name, tensor), part in zip(tensors.items(), parts, strict=True)
    }


@torch.no_grad()
def masked(tensors: Tensors, mask: Mask) -> dict[str, Tensor]:
    """New tensors with +0.0 outside the mask."""
    return {name: tensor.masked_fill(~mask[name], 0.0) for name, tensor in tensors.items()}
