"""LAMP scores: how much of what is left of its layer a weight would be, if smaller ones went."""

from __future__ import annotations

import torch
from torch import Tensor


def lamp_keys(keys: Tensor) -> Tensor:
    """int32 keys of the scores of the living weights, in descending order, on the CPU.

    The score of u is w_u^2 over the sum of w_v^2 of all |w_v| >= |w_u| in the layer (Lee et al.
    2021). One of the largest weights counts as 1, the highest score there is, even where it has
    equals. On the CPU, because CUDA's cumulative sum differs from call to call.
    """
    falling = keys[keys >= 0].cpu().sort(descending=True).values
    if not len(falling):
        return falling
    squares = falling.view(torch.float32).double().square()
    rising = -falling
    ends = torch.searchsorted(rising, rising, right=True) - 1  # of the equal ones, all count
    scores = (squares / squares.cumsum(0)[ends]).nan_to_num(0.0)  # 0 / 0 in a layer of zeros
    scores[0] = 1.0
    return scores.to(torch.float32).view(torch.int32)
