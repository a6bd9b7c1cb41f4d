"""The weighted sum of candidates, in candidate order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_CHUNK = 1 << 16  # values that are mixed together: they stay in the processor's cache
_DEVICE_CHUNK = 1 << 26


def mix(candidates: Tensor, coefficients: Sequence[float]) -> Tensor:
    """The soup [n] of candidates [m, n] (any float type); the coefficients add up to 1.

    Summed in float64 in index order, element by element: a soup mixed in slices has the bits of one
    mixed whole. A candidate with coefficient zero is not touched: it may hold anything.
    """
    largest = max(coefficients)
    # Shares of the largest, divided by their sum at the end: 1/3 has no exact float, 3 has one, so
    # that equal coefficients give the exact mean.
    shares = [coefficient / largest for coefficient in coefficients]
    soup = candidates.new_empty(candidates.shape[1])
    size = _CHUNK if candidates.device.type == "cpu" else _DEVICE_CHUNK
    pieces = zip(torch.split(soup, size), torch.split(candidates, size, dim=1), strict=True)
    for piece, some in pieces:
        # Not from 0.0: that would turn the -0.0 of equal candidates into 0.0.
        total = torch.full_like(piece, -0.0, dtype=torch.float64)
        for candidate, share in zip(some, shares, strict=True):
            if share:
                total.add_(candidate.double(), alpha=share)
        piece.copy_(total.div_(sum(shares)))
    return soup
