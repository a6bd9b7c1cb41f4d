"""Images that lie on the device as uint8 and become batches there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from data.corruptions.sets import reader
from data.dataset import Augment, DatasetInfo, Split
from data.division import divided
from data.loader import Batch, Loaders
from data.order import epoch_indices, part_indices, steps_per_epoch
from data.pixels import Pixels
from data.subgroups import grouped
from sms_dist.config import DataConfig
from sms_dist.randomness import Stream


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
            reader(self.test),
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
    augment = augment if config.augment else None
    return Images(info, train, validation, test, mean, std, augment)


class Resident:
    """A `Loader` over images in device memory."""

    def __init__(
        self,
        split: Split,
        batch_size: int,
        pixels: Pixels,
        augment: Augment | None,
        device: torch.device,
    ) -> None:
        self._images = split.images.to(device)
        self._targets = split.targets.to(device)
        self._subgroups = None if split.subgroups is None else split.subgroups.to(device)
        self._batch_size = batch_size
        self._pixels = pixels
        self._augment = augment
        self._device = device

    @property
    def num_samples(self) -> int:
        return len(self._targets)

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return steps_per_epoch(self.num_samples, self._batch_size)

    def epoch(
        self,
        order: Stream,
        augmentation: Stream,
        rank: int = 0,
        num_ranks: int = 1,
        start_step: int = 0,
    ) -> Iterator[Batch]:
        """A rank's batches of one epoch in the order of a stream, from a step on."""
        steps = epoch_indices(
            self.num_samples, self._batch_size, order, rank, num_ranks, start_step, self._device
        )
        return (self._batch(indices, size, augmentation) for indices, size in steps)

    def part(self, index: int, num_parts: int, batch_size: int | None = None) -> Iterator[Batch]:
        """One of several readers' batches, in stored order, not augmented; there may be none."""
        batches = part_indices(self.num_samples, batch_size or self._batch_size, index, num_parts)
        return (self._batch(b.to(self._device), len(b), None) for b in batches)

    def _batch(self, indices: Tensor, size: int, augmentation: Stream | None) -> Batch:
        images = self._images.index_select(0, indices)
        targets = self._targets.index_select(0, indices)
        if self._augment is not None and augmentation is not None:
            images, targets = self._augment(images, targets, indices, augmentation)
        inputs = self._pixels.normalised(images)
        subgroups = None if self._subgroups is None else self._subgroups.index_select(0, indices)
        return Batch((inputs,), targets.long(), size, float(size), subgroups)
