"""Brings decoded images to one size: scaled, cut from the centre, or a random part of them.

Pillow's bilinear filter averages over all pixels that it shrinks into one; masks take the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom
LARGER = 8 / 7  # the shorter side before the centre is cut out: 256 for 224
TRIES = 10
NUM_DRAWS = 4 * TRIES + 1  # area, shape, top, left of each try; mirrored or not
AREA = (0.08, 1.0)
SHAPE = (math.log(3 / 4), math.log(4 / 3))  # width to height


def image(pixels: Pixels, size: tuple[int, int], how: str) -> Pixels:
    """C x h x w -> C x H x W; `how` is the card's `fit`."""
    box = _centre(pixels.shape[1:], size) if how == "crop" else None
    return _scaled(pixels, size, box)


def mask(values: Pixels, size: tuple[int, int], how: str) -> Pixels:
    """h x w -> H x W, each value one that was there."""
    if values.shape == size:
        return values
    box = _centre(values.shape, size) if how == "crop" else None
    shape = (size[1], size[0])
    return np.asarray(Image.fromarray(values).resize(shape, Image.Resampling.NEAREST, box))


def random_resized_crop(pixels: Pixels, size: tuple[int, int], draws: Sequence[float]) -> Pixels:
    """A part of 8 to 100 % of the area, 3:4 to 4:3, scaled to `size`; half of them mirrored.

    `draws` are NUM_DRAWS uniform numbers in [0, 1).
    """
    _, height, width = pixels.shape
    part = _scaled(pixels, size, random_part(height, width, draws))
    return np.ascontiguousarray(part[:, :, ::-1] if draws[-1] < 0.5 else part)


def random_part(height: int, width: int, draws: Sequence[float]) -> Box:
    """As torchvision chooses it: of ten tries the first that lies in the image, else the centre."""
    for i in range(TRIES):
        box = _part(height, width, draws[4 * i : 4 * i + 4])
        if box is not None:
            return box
    return _fallback(height, width)


def _part(height: int, width: int, draws: Sequence[float]) -> Box | None:
    area = height * width * (AREA[0] + draws[0] * (AREA[1] - AREA[0]))
    shape = math.exp(SHAPE[0] + draws[1] * (SHAPE[1] - SHAPE[0]))
    w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
    if not (0 < w <= width and 0 < h <= height):
        return None
    top, left = int(draws[2] * (height - h + 1)), int(draws[3] * (width - w + 1))
    return left, top, left + w, top + h


def _fallback(height: int, width: int) -> Box:
    """The largest part from the centre whose shape is not too long."""
    narrow, wide = (math.exp(limit) for limit in SHAPE)
    w, h = min(width, round(height * wide)), min(height, round(width / narrow))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def _centre(shape: Sequence[int], size: tuple[int, int]) -> Box:
    """What is left of an image (h x w) whose shorter side is scaled to 8/7 of `size`, then cut."""
    height, width = shape
    scale = min(height / size[0], width / size[1]) / LARGER
    h, w = size[0] * scale, size[1] * scale
    left, top = (width - w) / 2, (height - h) / 2
    return left, top, left + w, top + h


def _scaled(pixels: Pixels, size: tuple[int, int], box: Box | None) -> Pixels:
    """The part of C x h x w in the box (None: all of it), as C x H x W."""
    channels, height, width = pixels.shape
    if box in (None, (0, 0, width, height)) and (height, width) == size:
        return pixels
    flat = pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    shape = (size[1], size[0])
    result = np.asarray(Image.fromarray(flat).resize(shape, Image.Resampling.BILINEAR, box))
    return result[None] if channels == 1 else result.transpose(2, 0, 1)
