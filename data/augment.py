"""Whole-batch augmentations on the device: a sample's fate follows from its id and the stream."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sms_dist.randomness import Stream

PADDING = 4
MAX_ANGLE = math.radians(15)


def crop_flip(
    images: Tensor, targets: Tensor, sample_ids: Tensor, stream: Stream
) -> tuple[Tensor, Tensor]:
    """A crop out of the image padded with 4 zeros, half of them mirrored: pixels move, exactly."""
    return _crop_flip(images, stream.uniform(sample_ids, 3)), targets


def crop_flip_rotate(
    images: Tensor, targets: Tensor, sample_ids: Tensor, stream: Stream
) -> tuple[Tensor, Tensor]:
    """`crop_flip`, then a rotation within +-15 degrees (bilinear, zeros outside, rounded)."""
    draws = stream.uniform(sample_ids, 4)
    turned = _rotate(_crop_flip(images, draws), (draws[:, 3] * 2 - 1) * MAX_ANGLE)
    return turned, targets


def _crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Columns of `draws`: top, left, mirror."""
    num_samples, channels, height, width = images.shape
    offsets = (draws[:, :2] * (2 * PADDING + 1)).long()  # 0 ... 8
    columns = torch.arange(width, device=images.device).expand(num_samples, width)
    columns = torch.where(draws[:, 2:3] < 0.5, columns, width - 1 - columns) + offsets[:, 1:]
    rows = torch.arange(height, device=images.device) + offsets[:, :1]
    pixels = rows[:, :, None] * (width + 2 * PADDING) + columns[:, None, :]
    padded = F.pad(images, (PADDING,) * 4).flatten(2)
    index = pixels.flatten(1)[:, None, :].expand(-1, channels, -1)
    return padded.gather(2, index).view(images.shape)


def _rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Elementwise throughout: a matrix product's rounding may depend on the size of the batch."""
    height, width = images.shape[2:]
    cos, sin = (f(angles.double()).float()[:, None, None] for f in (torch.cos, torch.sin))
    y = torch.arange(height, device=images.device).float()[:, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device).float() - (width - 1) / 2
    grid_x = (x * cos - y * sin) * (2 / width)
    grid_y = (x * sin + y * cos) * (2 / height)
    grid = torch.stack((grid_x, grid_y), dim=-1)
    turned = F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False)
    return turned.round_().to(torch.uint8)  # never outside 0 ... 255: a weighted mean of pixels
