"""Random fields out of uniform random numbers, the same bits whatever batch they are made in.

So arithmetic is elementwise, or on numbers short enough for exact sums: the rounding of logarithms
and of matrix products may depend on a number's place in memory.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NUM_QUANTILES = 1 << 16
_WEIGHT_BITS = 18


@lru_cache(maxsize=1)
def quantiles() -> Tensor:
    """The standard normal distribution as so many equally likely numbers, ascending."""
    middles = (torch.arange(NUM_QUANTILES, dtype=torch.float64) + 0.5) / NUM_QUANTILES
    values: Tensor = torch.special.ndtri(middles)
    return values.float()


def normal(uniforms: Tensor) -> Tensor:
    """Standard normal numbers, one out of each uniform."""
    return quantiles().take((uniforms * NUM_QUANTILES).long())


def fractal_side(height: int, width: int) -> int:
    """The smallest square that `plasma` can make for an image; it needs side^2 uniforms."""
    return int(2 ** np.ceil(np.log2(max(height, width))))


def plasma(uniforms: Tensor, side: int, decay: float) -> Tensor:
    """Clouds between 0 and 1 by the diamond-square algorithm: N x side^2 -> N x side x side.

    The larger `decay`, the smoother. Opposite edges meet.
    """
    noise = uniforms * 2 - 1
    field = torch.zeros(len(uniforms), side, side)
    used, step, height = 0, side, 100.0

    def middle(sums: Tensor) -> Tensor:
        nonlocal used
        count = sums[0].numel()
        wobble = noise[:, used : used + count].view(sums.shape)
        used += count
        return sums / 4 + wobble * height**2

    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        squares = corners + corners.roll(-1, 1)
        field[:, half::step, half::step] = middle(squares + squares.roll(-1, 2))
        centres = field[:, half::step, half::step]
        upper = centres + centres.roll(1, 1) + corners + corners.roll(-1, 2)
        field[:, ::step, half::step] = middle(upper)
        left = centres + centres.roll(1, 2) + corners + corners.roll(-1, 1)
        field[:, half::step, ::step] = middle(left)
        step, height = half, height / decay
    field -= field.amin((1, 2), keepdim=True)
    return field / field.amax((1, 2), keepdim=True)


def smooth(uniforms: Tensor, sigma: float) -> Tensor:
    """Noise between -1 and 1 under a Gaussian of any width, reflected at the edges: N x H x W.

    Weights and noise are cut to so few bits that every sum is exact in double precision.
    """
    noise = (uniforms.double() * NUM_QUANTILES).floor() * (2 / NUM_QUANTILES) - 1
    rows, columns = (_smoothing(length, sigma) for length in noise.shape[1:])
    return rows @ noise @ columns.T


@lru_cache(maxsize=8)
def _smoothing(length: int, sigma: float) -> Tensor:
    """The matrix of a Gaussian, cut at three sigma."""
    radius = int(3 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    matrix = np.zeros((length, length))
    places = np.arange(length)[:, None]
    np.add.at(matrix, (places, _folded(places + offsets, length)), weights / weights.sum())
    return torch.from_numpy(np.round(matrix * 2**_WEIGHT_BITS) / 2**_WEIGHT_BITS)


def _folded(places: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Places beyond an edge reflected into 0 ... length - 1, the edge repeated."""
    places = places % (2 * length)
    return np.where(places < length, places, 2 * length - 1 - places)
