"""What training and evaluation ask of a data loader, wherever the samples lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from torch import Tensor

from data.corruptions.sets import Read
from data.pixels import Pixels
from sms_dist.randomness import Stream


class Batch(NamedTuple):
    """One rank's share of a step."""

    inputs: tuple[Tensor, ...]  # what the model's forward takes; images float32, normalised
    targets: Tensor  # classes, masks or tokens
    size: int  # samples of the step over all ranks of the group
    weight: float  # what a summed loss is divided by: those samples, or their tokens
    subgroups: Tensor | None = None  # int64, of each sample
    references: tuple[str, ...] = ()  # of sentences that are measured: translations by people


class Loader(Protocol):
    """One split, ready to be trained or evaluated on."""

    @property
    def num_samples(self) -> int: ...

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        ...

    def epoch(
        self,
        order: Stream,
        augmentation: Stream,
        rank: int = 0,
        num_ranks: int = 1,
        start_step: int = 0,
    ) -> Iterator[Batch]:
        """A rank's batches of one epoch in the order of a stream, from a step on."""
        ...

    def part(self, index: int, num_parts: int, batch_size: int | None = None) -> Iterator[Batch]:
        """One of several readers' batches, in stored order, not augmented; there may be none."""
        ...


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
