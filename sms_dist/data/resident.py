"""Images that lie on the device as uint8 and become batches there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.config import DataConfig
from sms_dist.data.augment import (
    crop_draws,
    of_batches,
    own_augmentation,
    random_resized_crop,
    takes_parts,
)
from sms_dist.data.card import Card
from sms_dist.data.dataset import Augment, DatasetInfo, Split, divided, grouped
from sms_dist.data.decode import Array, Decoded, Stack, fit
from sms_dist.data.loader import Batch, Loader, Loaders, Pixels, Step
from sms_dist.data.shards import wrong_count

# Pixels of several steps are read and augmented at once: what an operation costs, however little
# it does, is shared by them. On a CPU they stay in its cache.
BLOCK_BYTES = {"cpu": 2**21, "cuda": 2**25}


@dataclass(frozen=True)
class Images:
    """A `Dataset` in memory; `mean` and `std` are per channel, of pixels in [0, 1]."""

    info: DatasetInfo
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment | None  # of training batches only

    def loaders(self, batch_size: int, device: torch.device) -> Loaders:
        """Return all splits on the device; only the training one augments."""
        pixels = Pixels(self.mean, self.std, device)
        return Loaders(
            Resident(self.train, batch_size, pixels, self.augment, device),
            Resident(self.validation, batch_size, pixels, None, device),
            Resident(self.test, batch_size, pixels, None, device),
            pixels,
            self.test.read,
        )


def in_memory(
    train: Split,
    test: Split,
    info: DatasetInfo,
    config: DataConfig,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    augment: Augment | None = None,
) -> Images:
    """Return the data set with the first info.num_train training samples, some for validation.

    `augment` is used unless data.augment names a function of somebody's own.
    """
    train, test = (grouped(split, info, config.subgroups) for split in (train, test))
    train, validation = divided(train.first(info.num_train), info, config)
    if isinstance(config.augment, str):
        augment = own_augmentation(config.augment)
    return Images(info, train, validation, test, mean, std, augment)


def open_resident(
    card: Card,
    train: Iterable[Decoded],
    test: Iterable[Decoded],
    config: DataConfig,
    info: DatasetInfo,
) -> Images:
    """Return the data set of a card in memory; its samples are read in their stored order.

    For `random_resized_crop` the training images stay in the sizes in which they are stored as
    well: C x h x w bytes each.
    """
    keeps_stored = takes_parts(card, config.augment)
    place = f"data.path={config.path}"
    splits = (
        gathered(train, info.num_train, card, f"{place}: train", keeps_stored),
        gathered(test, info.num_test, card, f"{place}: test"),
    )
    augment = of_batches(card, config.augment)
    return in_memory(*splits, info, config, card.mean, card.std, augment)


def gathered(
    samples: Iterable[Decoded], count: int, card: Card, place: str, keeps_stored: bool = False
) -> Split:
    """Return exactly `count` samples in the card's size; ValueError for fewer or more."""
    num_channels = card.channels + (card.task == "segmentation")
    num_bytes = count * num_channels * card.size[0] * card.size[1]
    _check_memory(num_bytes, place)  # before hours of reading
    stack = Stack(card, count)
    stored: list[Array] = []
    num_samples = 0
    for sample in samples:
        num_samples += 1
        if num_samples > count:
            continue
        stack.add(fit(card, sample))
        if keeps_stored:
            stored.append(np.ascontiguousarray(sample.image))
            num_bytes += sample.image.nbytes
            _check_memory(num_bytes, place)
    if num_samples != count:
        raise wrong_count(place, num_samples, count)
    return replace(stack.split(), stored=stored if keeps_stored else None)


def _check_memory(num_bytes: int, place: str) -> None:
    """Raise a ValueError unless the images fit into this machine."""
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if num_bytes > available:
        raise ValueError(
            f"{place} takes {num_bytes / 1e9:.0f} GB of memory and this machine has"
            f" {available / 1e9:.0f}; set data.loader=streaming, or a smaller data.size"
        )


class Resident(Loader):
    """Images in device memory; parts of stored images are cut out on the CPU."""

    def __init__(
        self,
        split: Split,
        batch_size: int,
        pixels: Pixels,
        augment: Augment | None,
        device: torch.device,
    ) -> None:
        super().__init__(len(split), batch_size)
        self._images = split.images.to(device)
        self._targets = split.targets.to(device)
        self._subgroups = None if split.subgroups is None else split.subgroups.to(device)
        self._stored = split.stored
        self._pixels = pixels
        self._augment = augment
        self._device = device
        sample_bytes = max(1, split.images[:1].numel())
        self._block_samples = BLOCK_BYTES[device.type] // sample_bytes

    def _order(self, order: Stream) -> Tensor:
        return super()._order(order).to(self._device)  # one copy an epoch: steps are views

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        for block in _blocks(steps, self._block_samples):
            indices = torch.cat([step.own for step in block]).to(self._device)
            images, targets = self._read(indices, augmentation)
            owns = [len(step.own) for step in block]
            pieces = (torch.split(values, owns) for values in (images, targets, indices))
            for step, own_images, own_targets, own in zip(block, *pieces, strict=True):
                inputs = self._pixels.normalised(own_images)  # memory of its own, aligned
                size = len(step.everyone)
                yield Batch((inputs,), own_targets, size, float(size), self._subgroups_of(own))

    def _read(self, indices: Tensor, augmentation: Stream | None) -> tuple[Tensor, Tensor]:
        targets = self._targets.index_select(0, indices)
        if augmentation is not None and self._stored is not None:
            images = self._parts(indices.cpu(), augmentation)
        else:
            images = self._images.index_select(0, indices)
        if self._augment is not None and augmentation is not None:
            images, targets = self._augment(images, targets, indices, augmentation)
        return images, targets.long()

    def _parts(self, indices: Tensor, augmentation: Stream) -> Tensor:
        """Return a random part of each stored image, in the size of all."""
        assert self._stored is not None
        height, width = self._images.shape[2:]
        draws = crop_draws(indices, augmentation)
        parts = [
            random_resized_crop(self._stored[i], (height, width), row)
            for i, row in zip(indices.tolist(), draws, strict=True)
        ]
        return torch.from_numpy(np.stack(parts)).to(self._device)

    def _subgroups_of(self, indices: Tensor) -> Tensor | None:
        return None if self._subgroups is None else self._subgroups.index_select(0, indices)


def _blocks(steps: Iterable[Step], num_samples: int) -> Iterator[list[Step]]:
    """Yield consecutive steps with about so many samples in all, at least one each."""
    block: list[Step] = []
    count = 0
    for step in steps:
        if block and count + len(step.own) > num_samples:
            yield block
            block, count = [], 0
        block.append(step)
        count += len(step.own)
    if block:
        yield block
