"""Whole-batch augmentations on the device: a sample's fate follows from its id and the stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.data import fit, zoom
from sms_dist.data.card import AugmentName, Card
from sms_dist.data.dataset import Augment
from sms_dist.data.decode import num_draws

PADDING = 4
MAX_ANGLE = math.radians(15)


def flip(
    images: Tensor, targets: Tensor, sample_ids: Tensor, stream: Stream
) -> tuple[Tensor, Tensor]:
    """Half of them mirrored, masks as well."""
    is_mirrored = stream.uniform(sample_ids, 1)[:, 0] < 0.5
    has_masks = targets.dim() > 1
    return (
        _mirrored(images, is_mirrored),
        _mirrored(targets, is_mirrored) if has_masks else targets,
    )


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


def random_resized_crop(
    images: Tensor, targets: Tensor, sample_ids: Tensor, stream: Stream
) -> tuple[Tensor, Tensor]:
    """A random part scaled to the whole, half of them mirrored.

    The parts are those of `fit.random_resized_crop`, but of images that already have one size.
    """
    draws = stream.uniform(sample_ids, fit.NUM_DRAWS)
    height, width = images.shape[2:]
    boxes = [fit.random_part(height, width, row) for row in draws.tolist()]
    windows = torch.tensor(boxes, dtype=torch.float64, device=images.device)
    return _mirrored(zoom.bilinear(images, windows), draws[:, -1] < 0.5), targets


def scale_crop_flip(
    images: Tensor, targets: Tensor, sample_ids: Tensor, stream: Stream, *, void: int
) -> tuple[Tensor, Tensor]:
    """Scaled by 0.5 to 2, a window of the old size out of it, half of them mirrored.

    Outside of shrunken images there are zeros, and `void` in masks.
    """
    draws = stream.uniform(sample_ids, 4)
    windows = zoom.random_windows(images.shape[2], images.shape[3], draws[:, :3].double())
    is_mirrored = draws[:, 3] < 0.5
    return (
        _mirrored(zoom.bilinear(images, windows), is_mirrored),
        _mirrored(zoom.nearest(targets, windows, void), is_mirrored),
    )


# What a card may name: each gives the augmentation for its batches, None for none.
AUGMENTATIONS: Mapping[AugmentName, Callable[[Card], Augment | None]] = {
    "none": lambda card: None,
    "flip": lambda card: flip,
    "crop_flip": lambda card: crop_flip,
    "crop_flip_rotate": lambda card: crop_flip_rotate,
    "random_resized_crop": lambda card: random_resized_crop,
    "scale_crop_flip": lambda card: partial(scale_crop_flip, void=card.void or 0),
}


def for_resident(card: Card) -> Augment | None:
    """Of batches of images that have all been brought to the card's size."""
    return AUGMENTATIONS[card.augment](card)


def for_streaming(card: Card) -> Augment | None:
    """Of batches of what `decode.fit_train` made: nothing that it has done already."""
    return None if num_draws(card) else for_resident(card)


def _mirrored(values: Tensor, is_mirrored: Tensor) -> Tensor:
    """Of N x ... x W, the samples of the flags reversed along the last axis."""
    kept, mirrored = values.flatten(1), values.flip(-1).flatten(1)
    if kept.shape[1] * kept.element_size() % 8 == 0:  # to choose 8 bytes takes as long as 1
        kept, mirrored = kept.view(torch.int64), mirrored.view(torch.int64)
    chosen = torch.where(is_mirrored[:, None], mirrored, kept)
    return chosen.view(values.dtype).view(values.shape)


def _crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Columns of `draws`: top, left, mirror."""
    offsets = (draws[:, :2] * (2 * PADDING + 1)).long()  # 0 ... 8
    padded = F.pad(images, (PADDING,) * 4)
    return _mirrored(_windows(padded, images.shape[2:], offsets), draws[:, 2] >= 0.5)


def _windows(padded: Tensor, size: torch.Size, offsets: Tensor) -> Tensor:
    """A window of each image, N x C x size; columns of `offsets`: top, left."""
    height, width = size
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # N x C x tops x lefts x size: a view
    samples = torch.arange(len(padded), device=padded.device)
    top, left = offsets.unbind(1)
    if padded.is_cpu:  # numpy copies whole rows, which is several times as fast
        chosen = (samples.numpy(), slice(None), top.numpy(), left.numpy())
        return torch.from_numpy(windows.numpy()[chosen])
    return windows[samples, :, top, left]


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
