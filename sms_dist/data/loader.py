"""The loader that training and evaluation ask for batches, wherever the samples lie.

Which samples a rank gets at each step is a function of a stream, cut among the ranks last.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.data.dataset import DatasetInfo, Read
from sms_dist.mesh.division import NUM_PARTS


class Batch(NamedTuple):
    """One rank's share of a step."""

    inputs: tuple[Tensor, ...]  # what the model's forward takes; images float32, normalised
    targets: Tensor  # classes, masks or tokens
    size: int  # samples of the step over all ranks of the group
    weight: float  # what a summed loss is divided by: those samples, or their tokens
    subgroups: Tensor | None = None  # int64, of each sample
    references: tuple[str, ...] = ()  # of sentences that are measured: translations by people


class Step(NamedTuple):
    """The indices of a step's samples."""

    own: Tensor  # those of one rank
    everyone: Tensor  # those of all ranks


class Loader(ABC):
    """One split, ready to be trained or evaluated on, wherever its samples lie.

    Stored order is the order of the files: nothing is known of it, samples may lie by class.
    """

    def __init__(self, num_samples: int, batch_size: int) -> None:
        self.num_samples, self._batch_size = num_samples, batch_size

    @property
    def num_steps(self) -> int:
        """Return the number of steps of an epoch."""
        return steps_per_epoch(self.num_samples, self._batch_size)

    def epoch(
        self,
        order: Stream,
        augmentation: Stream,
        rank: int = 0,
        num_ranks: int = 1,
        start_step: int = 0,
    ) -> Iterator[Batch]:
        """Return a rank's batches of one epoch in the order of a stream, from a step on.

        Nothing before `start_step` is looked at.
        """
        steps = cut(self._order(order), self._batch_size, rank, num_ranks, start_step)
        return self._batches(steps, augmentation)

    def parts(
        self, indices: range, num_parts: int = NUM_PARTS, batch_size: int | None = None
    ) -> dict[int, Iterator[Batch]]:
        """Return the batches of some of the equal parts of a split: in stored order, not augmented.

        Read the parts in their order, each to its end: all of them are read ahead. A part is the
        batches `part_indices` gives it: one or none where a split has few batches. Damaged samples
        that are allowed are left out.
        """
        size = batch_size or self._batch_size
        pieces = {i: list(part_indices(self.num_samples, size, i, num_parts)) for i in indices}
        steps = (Step(some, some) for part in pieces.values() for some in part)
        batches = self._batches(steps, None)
        return {
            i: (batch for batch in islice(batches, len(part)) if batch.size)
            for i, part in pieces.items()
        }

    def part(self, index: int, num_parts: int, batch_size: int | None = None) -> Iterator[Batch]:
        """Return the batches of a single part; see `parts`."""
        return self.parts(range(index, index + 1), num_parts, batch_size)[index]

    def _order(self, order: Stream) -> Tensor:
        """Return an epoch's order: each sample is as likely as the others to come next."""
        return order.permutation(self.num_samples)

    @abstractmethod
    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        """Return this rank's share of each step; not augmented if there is no stream."""


class Pixels:
    """Normalises stored pixels for a model, by their mean and standard deviation per channel.

    `mean` and `std` are those of pixels in [0, 1].
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).mul_(255).view(1, -1, 1, 1)
        self._std = torch.tensor(std, device=device).mul_(255).view(1, -1, 1, 1)

    def normalised(self, images: Tensor) -> Tensor:
        """Return inputs; what is uint8 (N x C x H x W) normalised, all else as it is."""
        if images.dtype != torch.uint8:
            return images if images.dtype == torch.int64 else images.to(torch.float32)
        return images.to(torch.float32).sub_(self._mean).div_(self._std)

    def restored(self, inputs: Tensor) -> Tensor:
        """Return the stored pixels again, exactly."""
        return (inputs * self._std + self._mean).round_().clamp_(0, 255).to(torch.uint8)


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


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Return the number of optimizer steps that see every sample once."""
    return -(-num_samples // batch_size)


def windowed(sizes: Sequence[int], num_mixed: int, stream: Stream) -> Tensor:
    """Return an order of the samples of shards with `sizes` samples, for disks that seek slowly.

    The shards are permuted and read `num_mixed` at a time, whose samples are permuted: each sample
    once, and no more than `num_mixed` shards are open at any time.
    """
    generator = stream.generator()
    ends = torch.tensor([0, *sizes]).cumsum(0)
    shards = torch.randperm(len(sizes), generator=generator)
    windows = []
    for start in range(0, len(sizes), num_mixed):
        chosen = shards[start : start + num_mixed]
        mixed = torch.cat([torch.arange(int(ends[i]), int(ends[i + 1])) for i in chosen])
        windows.append(mixed[torch.randperm(len(mixed), generator=generator)])
    return torch.cat([torch.empty(0, dtype=torch.int64), *windows])


def cut(
    order: Tensor, batch_size: int, rank: int, num_ranks: int, start_step: int = 0
) -> Iterator[Step]:
    """Return each step of an epoch in this order, from `start_step` on.

    Step sizes differ by at most 1, so that no step of an epoch weighs less than the others;
    the union over the ranks does not depend on their number.
    ValueError when a rank would get nothing in some step.
    """
    num_samples = len(order)
    num_steps = steps_per_epoch(num_samples, batch_size)
    assert 0 <= rank < num_ranks, (rank, num_ranks)
    smallest = num_samples // num_steps if num_steps else num_ranks
    if smallest < num_ranks:
        raise ValueError(
            f"data.batch_size={batch_size} cuts {num_samples} samples into steps of {smallest},"
            f" fewer than the {num_ranks} ranks of a candidate;"
            f" try engine.ranks_per_candidate={smallest} or a larger batch"
        )
    return _steps(order, num_steps, rank, num_ranks, start_step)


def part_indices(num_samples: int, batch_size: int, part: int, num_parts: int) -> Iterator[Tensor]:
    """Yield the sample indices of each batch of one of `num_parts` parts, in stored order.

    The batches do not depend on num_parts; a part may get none.
    """
    assert 0 <= part < num_parts, (part, num_parts)
    num_batches = steps_per_epoch(num_samples, batch_size)
    for batch in range(*_bounds(num_batches, part, num_parts)):
        yield torch.arange(*_bounds(num_samples, batch, num_batches))


def _steps(
    order: Tensor, num_steps: int, rank: int, num_ranks: int, start_step: int
) -> Iterator[Step]:
    for step in range(start_step, num_steps):
        start, end = _bounds(len(order), step, num_steps)
        low, high = _bounds(end - start, rank, num_ranks)
        yield Step(order[start + low : start + high], order[start:end])


def _bounds(total: int, piece: int, num_pieces: int) -> tuple[int, int]:
    """Return start and end of one of consecutive pieces whose sizes differ by at most 1."""
    return total * piece // num_pieces, total * (piece + 1) // num_pieces
