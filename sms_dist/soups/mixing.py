"""The weighted sum of candidates, in candidate order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mix(candidates: Tensor, coefficients: Sequence[float]) -> Tensor:
    """The soup [n] of candidates [m, n] (any float type); the coefficients add up to 1.

    Summed in float64 in index order, element by element: a soup mixed in slices has the bits of one
    mixed whole. A candidate with coefficient zero is not touched: it may hold anything.
    """
    largest = max(coefficients)
    # Shares of the largest, divided by their sum at the end: 1/3 has no exact float, 3 has one, so
    # that equal coefficients give the exact mean.
    shares = [coefficient / largest for coefficient in coefficients]
    # Not from 0.0: that would turn the -0.0 of equal candidates into 0.0.
    total = candidates.new_full((candidates.shape[1],), -0.0, dtype=torch.float64)
    for candidate, share in zip(candidates, shares, strict=True):
        if share:
            total.add_(candidate.double(), alpha=share)
    return total.div_(sum(shares)).to(candidates.dtype)
