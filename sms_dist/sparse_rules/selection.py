"""Masks of the largest values of all tensors together."""

from __future__ import annotations

import torch
from torch import Tensor

from sms_dist.pruning.layer import Layer
from sms_dist.pruning.mask import Mask
from sms_dist.pruning.selection import keep_largest
from sms_dist.sparse_rules.base import Tensors


def largest(tensors: Tensors, num_kept: int) -> Mask:
    """True for exactly `num_kept` values, the largest by magnitude; ties by (tensor, index)."""
    kept = keep_largest([Layer(tensor) for tensor in tensors.values()], num_kept)
    return dict(zip(tensors, kept, strict=True))


@torch.no_grad()
def masked(tensors: Tensors, mask: Mask) -> dict[str, Tensor]:
    """New tensors with +0.0 outside the mask."""
    return {name: tensor.masked_fill(~mask[name], 0.0) for name, tensor in tensors.items()}
