"""N:M pruning: of every M consecutive inputs the largest weights stay, as sparse hardware wants."""

from __future__ import annotations

import torch
from torch import Tensor

from sms_dist.pruning.apportion import num_kept
from sms_dist.pruning.layer import magnitude_keys
from sms_dist.pruning.mask import Mask, Tensors

_INPUTS = 1  # the dim of a linear layer's inputs and of a convolution's input channels


def keep_of_groups(tensors: Tensors, mask: Mask, sparsity: float, size: int) -> Mask:
    """A tighter mask: every group of `size` inputs has lost round(sparsity * size) at least.

    Ties go to the lower index. The number of inputs of every layer is a multiple of `size`.
    """
    kept = num_kept(size, sparsity)
    return {name: _kept(tensors[name], alive, kept, size) for name, alive in mask.items()}


def _kept(weight: Tensor, alive: Tensor, num: int, size: int) -> Tensor:
    keys = magnitude_keys(weight, alive).view(alive.shape).movedim(_INPUTS, -1)
    groups = keys.reshape(*keys.shape[:-1], -1, size)
    order = groups.sort(dim=-1, descending=True, stable=True).indices
    stays = torch.zeros_like(order, dtype=torch.bool)
    stays.scatter_(-1, order[..., :num], True)
    return alive & stays.flatten(-2).movedim(-1, _INPUTS)
