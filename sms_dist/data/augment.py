"""Augmentations by name: a sample's fate follows from its id and the stream.

Most change a whole batch of images in the card's size, on its device. `random_resized_crop` works
on each image before that, in the size in which it is stored, as `data.augment` names of one's own
work on each image after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sms_dist.base.lookup import guarded, own
from sms_dist.base.randomness import Stream, stream
from sms_dist.data import zoom
from sms_dist.data.card import AugmentName, Card
from sms_dist.data.dataset import Augment
from sms_dist.data.decode import Array, Box, scaled

PADDING = 4
MAX_ANGLE = math.radians(15)
ATTEMPTS = 10  # to choose a part that lies in the image
NUM_DRAWS = 4 * ATTEMPTS + 1  # area, shape, top, left of each attempt; mirrored or not
AREA = (0.08, 1.0)
SHAPE = (math.log(3 / 4), math.log(4 / 3))  # width to height


def flip(
    images: Tensor, targets: Tensor, sample_ids: Tensor, epoch: Stream
) -> tuple[Tensor, Tensor]:
    """Mirror half of the images, and their masks."""
    is_mirrored = epoch.uniform(sample_ids, 1)[:, 0] < 0.5
    has_masks = targets.dim() > 1
    return (
        _mirrored(images, is_mirrored),
        _mirrored(targets, is_mirrored) if has_masks else targets,
    )


def crop_flip(
    images: Tensor, targets: Tensor, sample_ids: Tensor, epoch: Stream
) -> tuple[Tensor, Tensor]:
    """Crop images that are padded with 4 zeros, and mirror half of them: pixels move, exactly."""
    return _crop_flip(images, epoch.uniform(sample_ids, 3)), targets


def crop_flip_rotate(
    images: Tensor, targets: Tensor, sample_ids: Tensor, epoch: Stream
) -> tuple[Tensor, Tensor]:
    """Do `crop_flip`, then rotate by up to 15 degrees (bilinear, zeros outside, rounded)."""
    draws = epoch.uniform(sample_ids, 4)
    turned = _rotate(_crop_flip(images, draws), (draws[:, 3] * 2 - 1) * MAX_ANGLE)
    return turned, targets


def scale_crop_flip(
    images: Tensor, targets: Tensor, sample_ids: Tensor, epoch: Stream, *, void: int
) -> tuple[Tensor, Tensor]:
    """Scale by 0.5 to 2, take a window of the old size, and mirror half of them.

    Outside of shrunken images there are zeros, and `void` in masks.
    """
    draws = epoch.uniform(sample_ids, 4)
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
    "random_resized_crop": lambda card: None,  # nothing that is left for the batch
    "scale_crop_flip": lambda card: partial(scale_crop_flip, void=card.void or 0),
}


def of_batches(card: Card, wanted: bool | str) -> Augment | None:
    """Return what changes training batches, as the card says or data.augment (`wanted`)."""
    if isinstance(wanted, str):
        return own_augmentation(wanted)
    return AUGMENTATIONS[card.augment](card) if wanted else None


def takes_parts(card: Card, wanted: bool | str) -> bool:
    """Return whether training takes `random_resized_crop` of the stored images."""
    return wanted is True and card.augment == "random_resized_crop"


def own_augmentation(name: str) -> Augment:
    """Return what changes each image of a training batch by a function of somebody's own.

    It is called with one image, uint8 [channels, height, width], where targets are masks with the
    mask as well, and returns the same. torch's generator is seeded from the run, the epoch and the
    sample before, so what it draws there depends on neither ranks nor batches.
    """
    given = own(name, "data.augment")
    made = guarded(given, name, "data.augment")() if isinstance(given, type) else given
    function = guarded(made, name, "data.augment")

    def augment(
        images: Tensor, targets: Tensor, sample_ids: Tensor, epoch: Stream
    ) -> tuple[Tensor, Tensor]:
        pairs, has_masks = [], targets.dim() > 1
        with torch.random.fork_rng(devices=[]):
            for image, target, sample in zip(images, targets, sample_ids.tolist(), strict=True):
                stream(epoch.key, "own augmentation", sample).seed_layers(torch.device("cpu"))
                row, target = function(image, target) if has_masks else (function(image), target)
                if row.shape != image.shape or row.dtype != image.dtype:
                    raise ValueError(
                        f"data.augment={name} returned {row.dtype} {tuple(row.shape)} for an image "
                        f"of {image.dtype} {tuple(image.shape)}; return the same kind"
                    )
                pairs.append((row, target))
        rows, new_targets = zip(*pairs, strict=True)
        return torch.stack(rows), torch.stack(new_targets)

    return augment


def crop_draws(sample_ids: Tensor, epoch: Stream) -> list[list[float]]:
    """Return the random numbers that `random_resized_crop` takes for each sample."""
    rows: list[list[float]] = epoch.uniform(sample_ids, NUM_DRAWS).tolist()
    return rows


def random_resized_crop(pixels: Array, size: tuple[int, int], draws: Sequence[float]) -> Array:
    """Return a part of a stored image (C x h x w) scaled to `size`; half of them are mirrored.

    It has 8 to 100 % of the area and a shape of 3:4 to 4:3. `draws` are NUM_DRAWS uniform numbers
    in [0, 1). Equal images and draws give equal bits.
    """
    _, height, width = pixels.shape
    part = scaled(pixels, size, random_part(height, width, draws))
    return np.ascontiguousarray(part[:, :, ::-1] if draws[-1] < 0.5 else part)


def random_part(height: int, width: int, draws: Sequence[float]) -> Box:
    """Return the first of ten random parts that lies in the image, else its centre.

    Parts are chosen as torchvision chooses them.
    """
    for i in range(ATTEMPTS):
        area, shape, top, left = draws[4 * i : 4 * i + 4]
        pixels = height * width * (AREA[0] + area * (AREA[1] - AREA[0]))
        ratio = math.exp(SHAPE[0] + shape * (SHAPE[1] - SHAPE[0]))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
            return x, y, x + w, y + h
    narrow, wide = (math.exp(limit) for limit in SHAPE)
    w, h = min(width, round(height * wide)), min(height, round(width / narrow))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h


def _mirrored(values: Tensor, is_mirrored: Tensor) -> Tensor:
    """Return N x ... x W values, the samples of the flags reversed along the last dim."""
    plain, mirrored = values.flatten(1), values.flip(-1).flatten(1)
    if plain.shape[1] * plain.element_size() % 8 == 0:  # to choose 8 bytes takes as long as 1
        plain, mirrored = plain.view(torch.int64), mirrored.view(torch.int64)
    chosen = torch.where(is_mirrored[:, None], mirrored, plain)
    return chosen.view(values.dtype).view(values.shape)


def _crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """Crop and mirror; columns of `draws`: top, left, mirror."""
    offsets = (draws[:, :2] * (2 * PADDING + 1)).long()  # 0 ... 8
    padded = F.pad(images, (PADDING,) * 4)
    return _mirrored(_windows(padded, images.shape[2:], offsets), draws[:, 2] >= 0.5)


def _windows(padded: Tensor, size: torch.Size, offsets: Tensor) -> Tensor:
    """Return a window of each image, N x C x size; columns of `offsets`: top, left."""
    height, width = size
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # N x C x tops x lefts x size: a view
    samples = torch.arange(len(padded), device=padded.device)
    top, left = offsets.unbind(1)
    if padded.is_cpu:  # numpy copies whole rows, which is several times as fast
        chosen = (samples.numpy(), slice(None), top.numpy(), left.numpy())
        return torch.from_numpy(windows.numpy()[chosen])
    return windows[samples, :, top, left]


def _rotate(images: Tensor, angles: Tensor) -> Tensor:
    """Rotate each image by its angle, in radians.

    Elementwise throughout: a matrix product's rounding may depend on the size of the batch.
    """
    height, width = images.shape[2:]
    cos, sin = (f(angles.double()).float()[:, None, None] for f in (torch.cos, torch.sin))
    y = torch.arange(height, device=images.device).float()[:, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device).float() - (width - 1) / 2
    grid_x = (x * cos - y * sin) * (2 / width)
    grid_y = (x * sin + y * cos) * (2 / height)
    grid = torch.stack((grid_x, grid_y), dim=-1)
    turned = F.grid_sample(images.float(), grid, padding_mode="zeros", align_corners=False)
    return turned.round_().to(torch.uint8)  # never outside 0 ... 255: a weighted mean of pixels
