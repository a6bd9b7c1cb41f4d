"""Linear filters as sums of shifted images, the same bits for an image whatever its batch.

Products and sums are separate elementwise operations throughout: convolutions, matrix products and
fused multiply-adds round in ways that depend on the size of the batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_LIGHTEST = 1e-5  # a weight below it, of 1, changes no pixel


def gaussian(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian cut at four sigma; float32 N x C x H x W, edges repeated outwards."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    for kernel in (weights[:, None], weights[None, :]):
        images = correlate(images, kernel, "replicate")
    return images


def correlate(images: Tensor, kernel: NDArray[np.float64], edges: str) -> Tensor:
    """Each pixel the weighted sum of its neighbours; a kernel of odd sides; edges as in F.pad."""
    down, right = (side // 2 for side in kernel.shape)
    height, width = images.shape[2:]
    padded = F.pad(images, (right, right, down, down), mode=edges)
    total = torch.zeros_like(images)
    for y, x in np.argwhere(kernel > _LIGHTEST).tolist():
        total += padded[:, :, y : y + height, x : x + width] * float(kernel[y, x])
    return total


def disc(radius: float, softness: float) -> NDArray[np.float64]:
    """An out-of-focus point: a disc of so many pixels, its rim softened by a Gaussian."""
    rim = 1 if radius <= 8 else 2
    reach = math.ceil(radius) + rim
    places = np.arange(-reach, reach + 1)
    sharp = (places[:, None] ** 2 + places**2 <= radius**2).astype(np.float64)
    steps = np.arange(-rim, rim + 1)
    weights = np.exp(-0.5 * (steps / softness) ** 2)
    moved = [
        weights[y] * weights[x] * np.roll(sharp, (steps[y], steps[x]), (0, 1))
        for y in range(len(steps))
        for x in range(len(steps))
    ]
    kernel: NDArray[np.float64] = np.sum(moved, axis=0)
    kernel /= kernel.sum()
    return kernel


def smear(images: Tensor, radius: int, sigma: float, degrees: Tensor) -> Tensor:
    """Each image smeared into one direction (degrees, float64 N), as ImageMagick's motion blur.

    Half a Gaussian along a line of pixels, edges repeated outwards.
    """
    taps = torch.arange(2 * radius + 1, dtype=torch.float64)
    weights = torch.exp(-(taps**2) / (2 * sigma**2))
    weights = weights[weights > _LIGHTEST]
    weights /= weights.sum()
    angles = torch.deg2rad(degrees)[:, None]
    right, down = (
        (taps[: len(weights)] * f(angles) - 0.5).ceil().long() for f in (torch.cos, torch.sin)
    )
    total = torch.zeros_like(images)
    for tap, weight in enumerate(weights.tolist()):
        total += _shifted(images, down[:, tap, None], right[:, tap, None]) * weight
    return total


def _shifted(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Each image read at its own offset (N x 1 each), edges repeated outwards."""
    height, width = images.shape[2:]
    rows = (torch.arange(height) + down).clamp_(0, height - 1)
    columns = (torch.arange(width) + right).clamp_(0, width - 1)
    return picked(images, rows[:, :, None] * width + columns[:, None, :])


def picked(images: Tensor, places: Tensor) -> Tensor:
    """The pixels at places y * W + x (N x H x W) of each image, all channels."""
    index = places.flatten(1)[:, None, :].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, index).view(*images.shape[:2], *places.shape[1:])


def zoomed(pixels: Tensor, factor: float) -> Tensor:
    """The middle of each image enlarged to the whole, between pixels linearly: H x W x anything."""
    for dim in (0, 1):
        first, share = _zoom_places(pixels.shape[dim], factor)
        share = share[:, None, None] if dim == 0 else share[:, None]
        near, far = pixels.index_select(dim, first), pixels.index_select(dim, first + 1)
        pixels = near.mul_(1 - share).add_(far.mul_(share))
    return pixels


def _zoom_places(length: int, factor: float) -> tuple[Tensor, Tensor]:
    """For each place of the result: the source pixel before it, and the share of the next one."""
    num_cropped = math.ceil(length / factor)
    num_enlarged = round(num_cropped * factor)
    trimmed = (num_enlarged - length) // 2
    step = (num_cropped - 1) / (num_enlarged - 1)
    inside = (torch.arange(length, dtype=torch.float64) + trimmed) * step
    places = (inside + (length - num_cropped) // 2).clamp(0, length - 1)
    first = places.floor().clamp(max=length - 2)
    return first.long(), (places - first).float()


def bilinear(images: Tensor, y: Tensor, x: Tensor, repeat_edge: bool) -> Tensor:
    """Images read at fractional places (float64 N x H x W), reflected beyond the edges."""
    height, width = images.shape[2:]
    top, left = y.floor(), x.floor()
    below, beside = ((v - f).float()[:, None] for v, f in ((y, top), (x, left)))

    def rows(offset: int) -> Tensor:
        return _folded(top.long() + offset, height, repeat_edge) * width

    def columns(offset: int) -> Tensor:
        return _folded(left.long() + offset, width, repeat_edge)

    near, far = columns(0), columns(1)
    upper, lower = (
        picked(images, r + near) * (1 - beside) + picked(images, r + far) * beside
        for r in (rows(0), rows(1))
    )
    return upper * (1 - below) + lower * below


def _folded(places: Tensor, length: int, repeat_edge: bool) -> Tensor:
    """Places beyond an edge reflected into 0 ... length - 1."""
    if repeat_edge:
        places = places.remainder(2 * length)
        return torch.minimum(places, 2 * length - 1 - places)
    places = places.remainder(2 * length - 2)
    return torch.minimum(places, 2 * length - 2 - places)
