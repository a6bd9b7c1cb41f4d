"""What training and evaluation ask of a data loader, wherever the samples lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.data.dataset import DatasetInfo, Read
from sms_dist.data.order import Step, cut, part_indices, steps_per_epoch
from sms_dist.data.pixels import Pixels


class Batch(NamedTuple):
    """One rank's share of a step."""

    inputs: tuple[Tensor, ...]  # what the model's forward takes; images float32, normalised
    targets: Tensor  # classes, masks or tokens
    size: int  # samples of the step over all ranks of the group
    weight: float  # what a summed loss is divided by: those samples, or their tokens
    subgroups: Tensor | None = None  # int64, of each sample
    references: tuple[str, ...] = ()  # of sentences that are measured: translations by people


class Loader(ABC):
    """One split, ready to be trained or evaluated on, wherever its samples lie."""

    def __init__(self, num_samples: int, batch_size: int) -> None:
        self.num_samples, self._batch_size = num_samples, batch_size

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
        """A rank's batches of one epoch in the order of a stream, from a step on.

        Nothing before `start_step` is looked at.
        """
        steps = cut(self._order(order), self._batch_size, rank, num_ranks, start_step)
        return self._batches(steps, augmentation)

    def part(self, index: int, num_parts: int, batch_size: int | None = None) -> Iterator[Batch]:
        """One of several readers' batches, in stored order, not augmented; there may be none."""
        places = part_indices(self.num_samples, batch_size or self._batch_size, index, num_parts)
        return self._batches((Step(some, some) for some in places), None)

    def _order(self, order: Stream) -> Tensor:
        """Of an epoch: each sample as likely as the others to come next."""
        return order.permutation(self.num_samples)

    @abstractmethod
    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        """My share of each step; without augmentation if there is no stream."""


class Excerpt(Loader):
    """The first samples of a split in batches of another size, to measure how fast they come.

    Batches are made as the loader makes them.
    """

    def __init__(self, loader: Loader, batch_size: int, num_samples: int) -> None:
        super().__init__(min(num_samples, loader.num_samples), batch_size)
        self._loader = loader

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        return self._loader._batches(steps, augmentation)


@dataclass(frozen=True)
class Loaders:
    """The splits of a data set."""

    train: Loader
    validation: Loader
    test: Loader
    pixels: Pixels | None = None  # of images: how inputs were made of them
    stored_test: Read | None = None  # of images: those of the test set, as they are stored
    facts: Mapping[str, int] = field(default_factory=dict)  # what was left out or cut when reading
    damaged: Callable[[], Sequence[str]] = tuple  # what was wrong with samples that were left out


class Dataset(Protocol):
    """A data set that has been opened: in memory, or as files that are read while training."""

    @property
    def info(self) -> DatasetInfo: ...

    def loaders(self, batch_size: int, device: torch.device) -> Loaders:
        """Return all splits, of which only the training one augments."""
        ...
