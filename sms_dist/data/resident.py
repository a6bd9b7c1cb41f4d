"""Images that lie on the device as uint8 and become batches there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.config import DataConfig
from sms_dist.data.augment import for_resident
from sms_dist.data.card import Card
from sms_dist.data.dataset import Augment, DatasetInfo, Split
from sms_dist.data.decode import Decoded, fit_test
from sms_dist.data.loader import Batch, Loader, Loaders
from sms_dist.data.order import Step
from sms_dist.data.pixels import Pixels
from sms_dist.data.splits import divided, grouped
from sms_dist.data.theirs import own_augmentation

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
        """All splits on the device; only the training one augments."""
        pixels = Pixels(self.mean, self.std, device)

        def resident(split: Split, augment: Augment | None) -> Resident:
            return Resident(split, batch_size, pixels, augment, device)

        return Loaders(
            resident(self.train, self.augment),
            resident(self.validation, None),
            resident(self.test, None),
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
    """As configured: the first info.num_train training samples, some of them for validation."""
    train, test = (grouped(split, info, config.subgroups) for split in (train, test))
    train, validation = divided(train.first(info.num_train), info, config)
    if isinstance(config.augment, str):
        augment = own_augmentation(config.augment)
    augment = augment if config.augment else None
    return Images(info, train, validation, test, mean, std, augment)


def open_resident(
    card: Card,
    train: Iterable[tuple[str, Decoded]],
    test: Iterable[tuple[str, Decoded]],
    config: DataConfig,
    info: DatasetInfo,
) -> Images:
    """Return the data set in memory; samples are read in stored order, no more than are wanted."""
    if config.train_samples:
        train = islice(train, info.num_train)  # later shards are not opened
    splits = (
        gathered(train, info.num_train, card, f"data.path={config.path}: train"),
        gathered(test, info.num_test, card, f"data.path={config.path}: test"),
    )
    return in_memory(*splits, info, config, card.mean, card.std, for_resident(card))


def gathered(stored: Iterable[tuple[str, Decoded]], count: int, card: Card, place: str) -> Split:
    """Return exactly `count` samples in the card's size; ValueError for fewer or more."""
    _check_memory(count, card, place)
    is_masks = card.task == "segmentation"
    images = np.empty((count, card.channels, *card.size), np.uint8)
    targets = np.empty((count, *card.size), np.uint8) if is_masks else np.empty(count, np.int64)
    subgroups = np.empty(count, np.int64) if card.subgroups else None
    found = 0
    for _place, sample in stored:
        if found < count:
            images[found], targets[found], subgroup = fit_test(card, sample)
            if subgroups is not None and subgroup is not None:
                subgroups[found] = subgroup
        found += 1
    if found != count:
        raise ValueError(
            f"{place} has {found} samples instead of {count}; copy the missing shards,"
            " or if this is the whole set, write its index.json with `sms-dist data index`"
        )
    return Split(
        torch.from_numpy(images),
        torch.from_numpy(targets),
        None if subgroups is None else torch.from_numpy(subgroups),
    )


def _check_memory(count: int, card: Card, place: str) -> None:
    """Before hours of reading: the images fit into this machine."""
    needed = count * (card.channels + (card.task == "segmentation")) * card.size[0] * card.size[1]
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"{place} takes {needed / 1e9:.0f} GB of memory and this machine has"
            f" {there / 1e9:.0f}; set data.loader=streaming, or a smaller data.size"
        )


class Resident(Loader):
    """Images in device memory."""

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
        images = self._images.index_select(0, indices)
        targets = self._targets.index_select(0, indices)
        if self._augment is not None and augmentation is not None:
            images, targets = self._augment(images, targets, indices, augmentation)
        return images, targets.long()

    def _subgroups_of(self, indices: Tensor) -> Tensor | None:
        return None if self._subgroups is None else self._subgroups.index_select(0, indices)


def _blocks(steps: Iterable[Step], num_samples: int) -> Iterator[list[Step]]:
    """Consecutive steps with about so many samples in all, at least one each."""
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
