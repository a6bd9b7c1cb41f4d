"""A split that lies on the device as uint8 and becomes batches there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from data.dataset import Augment, Split
from data.loader import Batch
from data.order import epoch_indices, part_indices, steps_per_epoch
from sms_dist.randomness import Stream


class Resident:
    """A `Loader` over images in device memory; `mean` and `std` are of pixels in [0, 1]."""

    def __init__(
        self,
        split: Split,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment | None,
        device: torch.device,
    ) -> None:
        self._images = split.images.to(device)
        self._labels = split.labels.to(device)
        self._batch_size = batch_size
        self._mean = torch.tensor(mean, device=device).mul_(255).view(1, -1, 1, 1)
        self._std = torch.tensor(std, device=device).mul_(255).view(1, -1, 1, 1)
        self._augment = augment
        self._device = device

    @property
    def num_samples(self) -> int:
        return len(self._labels)

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
        if self._augment is not None and augmentation is not None:
            images = self._augment(images, indices, augmentation)
        inputs = images.to(torch.float32).sub_(self._mean).div_(self._std)
        return Batch(inputs, self._labels.index_select(0, indices), size)
