"""Corruptions by processing: contrast, saturation, warping, coarse pixels, JPEG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sms_dist.data.corruptions import filters
from sms_dist.data.corruptions.levels import Draw, level
from sms_dist.data.corruptions.textures import smooth

# Of the shorter side: size and smoothness of a displacement, and how far three points of the image
# are moved by an affine map.
Warp: TypeAlias = tuple[float, float, float]
SMALL_WARPS: tuple[Warp, ...] = (
    (0.0, 0.0, 0.08),
    (0.05, 0.2, 0.07),
    (0.08, 0.06, 0.06),
    (0.1, 0.04, 0.05),
    (0.1, 0.03, 0.03),
)
LARGE_WARPS: tuple[Warp, ...] = (
    (2.18, 0.7625, 0.109),  # the authors' 2, 0.7 and 0.1 are of 244 for an image of 224 pixels
    (2.18, 0.0871, 0.218),
    (0.0545, 0.0109, 0.0218),
    (0.0763, 0.0109, 0.0218),
    (0.1307, 0.0109, 0.0218),
)


def contrast(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Towards the mean colour of the image. Constants: the share of the difference that stays."""
    share = level(images, severity, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
    num_pixels = images.shape[2] * images.shape[3]
    means = (images.sum((2, 3), keepdim=True).double() / num_pixels).float()  # exact sums
    return (images.float() - means) * share + means


def saturate(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: factor and offset of the saturation. Grey pixels count as red, as published."""
    small = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))
    large = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))
    factor, offset = level(images, severity, small, large)
    if images.shape[1] == 1:
        return images
    pixels = images.float()
    value = pixels.amax(1, keepdim=True)
    missing = value - pixels  # of the brightest colour, which keeps hue and value
    most = missing.amax(1, keepdim=True)
    red = torch.tensor([0.0, 1.0, 1.0]).view(1, 3, 1, 1)
    hue = torch.where(most > 0, missing / most.clamp_min(1), red)
    saturation = most / value.clamp_min(1)
    return value - hue * value * (saturation * factor + offset).clamp_(0, 1)


def pixelate(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Made smaller and large again. Constants: the share of a side."""
    share = level(images, severity, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))

    def coarse(image: Image.Image) -> Image.Image:
        width, height = image.size
        smaller = image.resize((int(width * share), int(height * share)), Image.Resampling.BOX)
        return smaller.resize((width, height), Image.Resampling.BOX)

    return _one_by_one(images, coarse)


def jpeg_compression(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Constants: the quality of JPEG."""
    quality = level(images, severity, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7))

    def compressed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file, formats=("JPEG",))

    return _one_by_one(images, compressed)


def elastic_transform(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """A random affine map, then a random smooth displacement."""
    constants = level(images, severity, SMALL_WARPS, LARGE_WARPS)
    num_images, (height, width) = len(images), images.shape[2:]
    side = min(height, width)
    size, sigma, reach = (constant * side for constant in constants)
    uniforms = draw(6 + 2 * height * width)
    moves = (uniforms[:, :6].double() * 2 - 1) * reach
    warped = filters.bilinear(images.float(), *_affine(moves, height, width), repeat_edge=False)
    if not size:
        return warped
    fields = uniforms[:, 6:].reshape(2 * num_images, height, width)
    shift = (smooth(fields, sigma) * size).view(num_images, 2, height, width)
    y = torch.arange(height)[:, None] + shift[:, 0]
    x = torch.arange(width) + shift[:, 1]
    return filters.bilinear(warped, y, x, repeat_edge=True)


def _affine(moves: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from (y and x, N x H x W) when three points move by `moves` (N x 6).

    The points are corners of a square in the middle: lower right, upper right, upper left.
    """
    half = min(height, width) // 3
    corner = torch.tensor([width // 2 + half, height // 2 - half], dtype=torch.float64)
    lower, upper, left = moves.view(-1, 3, 2).unbind(1)  # x, y each
    side = 2 * half
    right = (upper - left) / side + torch.tensor([1.0, 0.0])  # where a step to the right goes
    down = (lower - upper) / side + torch.tensor([0.0, 1.0])
    (a, c), (b, d) = (v[:, :, None, None].unbind(1) for v in (right, down))
    determinant = a * d - b * c
    target = corner + upper
    x = torch.arange(width) - target[:, 0, None, None]
    y = torch.arange(height)[:, None] - target[:, 1, None, None]
    return (a * y - c * x) / determinant + corner[1], (d * x - b * y) / determinant + corner[0]


def _one_by_one(images: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    """Through Pillow."""
    pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    result = np.empty_like(pixels)
    is_grey = pixels.shape[-1] == 1
    for number, image in enumerate(pixels):
        changed = change(Image.fromarray(image[:, :, 0] if is_grey else image))
        result[number] = np.asarray(changed).reshape(image.shape)
    return torch.from_numpy(result).permute(0, 3, 1, 2)
