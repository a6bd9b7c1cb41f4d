"""Filters and random clouds that corruptions are made of, by scipy.ndimage."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]
from scipy.sparse import csr_array  # type: ignore[import-untyped]

Image: TypeAlias = NDArray[np.float64]  # H x W x channels, 0 ... 1


def blurred(image: Image, sigma: float, truncate: float = 4.0) -> Image:
    """Return the image under a Gaussian, its edges repeated outwards."""
    result: Image = ndimage.gaussian_filter(
        image, (sigma, sigma, 0), mode="nearest", truncate=truncate
    )
    return result


def defocused(image: Image, radius: float, softness: float) -> Image:
    """Return each pixel smeared over a disc, whose rim is softened by a Gaussian."""
    rim = 1 if radius <= 8 else 2
    reach = math.ceil(radius) + rim
    places = np.arange(-reach, reach + 1)
    disc = (places[:, None] ** 2 + places**2 <= radius**2).astype(np.float64)
    kernel = blurred(disc[..., None], softness, truncate=rim / softness)
    result: Image = ndimage.correlate(image, kernel / kernel.sum(), mode="mirror")
    return result


def smeared(image: Image, radius: int, sigma: float, degrees: float) -> Image:
    """Return the image smeared into one direction, as by ImageMagick's motion blur.

    The kernel is half a Gaussian along a line of pixels; edges are repeated outwards.
    """
    taps = np.arange(2 * radius + 1)
    angle = math.radians(degrees)
    moves = [np.ceil(taps * f(angle) - 0.5).astype(int) for f in (math.sin, math.cos)]
    kernel = np.zeros((*(np.ptp(each) + 1 for each in moves), 1))
    places = tuple(each - each.min() for each in moves)
    np.add.at(kernel[..., 0], places, np.exp(-0.5 * (taps / sigma) ** 2))
    # scipy takes the middle of the kernel for the pixel itself, which is where the first tap lies
    first = [place[0] - side // 2 for place, side in zip(places, kernel.shape, strict=False)]
    result: Image = ndimage.correlate(
        image, kernel / kernel.sum(), mode="nearest", origin=(*first, 0)
    )
    return result


def zoomed(image: Image, factor: float) -> Image:
    """Return the middle of the image enlarged to the whole, linear between pixels."""
    for _ in range(2):  # rows, then columns
        matrix = _zoom_matrix(len(image), factor)
        image = (matrix @ image.reshape(len(image), -1)).reshape(image.shape).swapaxes(0, 1)
    return image


@lru_cache(maxsize=256)
def _zoom_matrix(length: int, factor: float) -> Any:
    """Return `zoomed` along one axis as a sparse matrix, several times as fast as each time anew.

    The axis is cropped and enlarged as by the authors, then trimmed to its length.
    """
    cropped = np.eye(length)[_middle(length, math.ceil(length / factor))]
    enlarged = ndimage.zoom(cropped, (factor, 1), order=1)
    return csr_array(enlarged[_middle(len(enlarged), length)])


def _middle(length: int, count: int) -> slice:
    """Return the `count` places in the middle of an axis."""
    start = (length - count) // 2
    return slice(start, start + count)


def clouds(image: Image, rng: Generator, decay: float) -> Image:
    """Return clouds of the image's size, H x W x 1, between 0 and 1, by the diamond-square method.

    The larger `decay`, the smoother. They are cut out of a square whose opposite edges meet.
    """
    height, width = image.shape[:2]
    side = 2 ** math.ceil(math.log2(max(height, width)))
    field, step, wobble = np.zeros((side, side)), side, 100.0

    def middle(sums: Image) -> Image:
        return sums / 4 + wobble * rng.uniform(-wobble, wobble, sums.shape)

    while step >= 2:
        half = step // 2
        corners = field[::step, ::step]
        squares = corners + np.roll(corners, -1, 0)
        centres = middle(squares + np.roll(squares, -1, 1))
        field[half::step, half::step] = centres
        above = centres + np.roll(centres, 1, 0)
        field[::step, half::step] = middle(above + corners + np.roll(corners, -1, 1))
        beside = centres + np.roll(centres, 1, 1)
        field[half::step, ::step] = middle(beside + corners + np.roll(corners, -1, 0))
        step, wobble = half, wobble / decay
    field -= field.min()
    field /= field.max()
    return field[:height, :width, None]
