"""The weighted sum of candidates, in candidate order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mix(candidates: Tensor, coefficients: Sequence[float]) -> Tensor:
    """The soup [n] of candidates [m, n] (any float type), summed in float64 in index order.

    Element by element, so a soup mixed in slices has the bits of one mixed whole. A candidate with
    coefficient zero is not touched: it may hold anything.
    """
    # Not from 0.0: that would turn the -0.0 of equal candidates into 0.0.
    total = candidates.new_full((candidates.shape[1],), -0.0, dtype=torch.float64)
    for candidate, coefficient in zip(candidates, coefficients, strict=True):
        if coefficient:
            total.add_(candidate.double(), alpha=coefficient)
    return total.to(candidates.dtype)
