"""Images that lie on the device as uint8 and become batches there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from data.corruptions.sets import reader
from data.dataset import Augment, DatasetInfo, Split
from data.division import divided
from data.loader import Batch, Loader, Loaders
from data.order import Step
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

    def _order(self, order: Stream) -> Tensor:
        return super()._order(order).to(self._device)  # one copy an epoch: steps are views

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        for step in steps:
            yield self._batch(step.own.to(self._device), len(step.everyone), augmentation)

    def _batch(self, indices: Tensor, size: int, augmentation: Stream | None) -> Batch:
        images = self._images.index_select(0, indices)
        targets = self._targets.index_select(0, indices)
        if self._augment is not None and augmentation is not None:
            images, targets = self._augment(images, targets, indices, augmentation)
        inputs = self._pixels.normalised(images)
        subgroups = None if self._subgroups is None else self._subgroups.index_select(0, indices)
        return Batch((inputs,), targets.long(), size, float(size), subgroups)
