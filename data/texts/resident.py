"""Parallel text that lies on the device as tokens and becomes batches there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from data.dataset import DatasetInfo
from data.loader import Batch, Loaders
from data.order import epoch_indices, part_indices, steps_per_epoch
from data.texts.packed import Packed
from sms_dist.randomness import Stream

WIDTHS = 8  # of batches are multiples of it: libraries keep a program for each shape they meet
START = 0  # what a translation begins with, in T5


@dataclass(frozen=True)
class Sentences:
    """One split. `references` are the targets as they were written; training needs none."""

    sources: Packed
    targets: Packed
    references: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> Sentences:
        return Sentences(self.sources.to(device), self.targets.to(device), self.references)


@dataclass(frozen=True)
class Texts:
    """A `Dataset` in memory; `facts` count what was left out or cut, for the journal."""

    info: DatasetInfo
    train: Sentences
    validation: Sentences
    test: Sentences
    facts: Mapping[str, int]

    def loaders(self, batch_size: int, device: torch.device) -> Loaders:
        """All splits on the device; none is augmented."""
        train, validation, test = (
            ResidentTexts(split, batch_size, device)
            for split in (self.train, self.validation, self.test)
        )
        return Loaders(train, validation, test, facts=self.facts)


class ResidentTexts:
    """A `Loader` of pairs; each batch is about as wide as its longest sentence."""

    def __init__(self, sentences: Sentences, batch_size: int, device: torch.device) -> None:
        self._sentences = sentences.to(device)
        self._batch_size = batch_size

    @property
    def num_samples(self) -> int:
        return len(self._sentences)

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
        size, batch_size = self.num_samples, self._batch_size
        own = epoch_indices(size, batch_size, order, rank, num_ranks, start_step)
        # what the other ranks have is known here: their tokens need not be asked for
        whole = epoch_indices(size, batch_size, order, 0, 1, start_step)
        return (
            self._batch(mine, everybody)
            for (mine, _), (everybody, _) in zip(own, whole, strict=True)
        )

    def part(self, index: int, num_parts: int, batch_size: int | None = None) -> Iterator[Batch]:
        """One of several readers' batches, in stored order; there may be none."""
        batches = part_indices(self.num_samples, batch_size or self._batch_size, index, num_parts)
        return (self._batch(indices, indices) for indices in batches)

    def _batch(self, indices: Tensor, everybody: Tensor) -> Batch:
        """`everybody`: the samples of all ranks in this step."""
        sources = self._sentences.sources.padded(indices, WIDTHS)
        targets = self._sentences.targets.padded(indices, WIDTHS)
        weight = float(self._sentences.targets.num_tokens(everybody))
        texts = self._sentences.references
        references = tuple(texts[i] for i in indices.tolist()) if texts else ()
        inputs = (sources, F.pad(targets, (1, 0), value=START)[:, :-1])
        return Batch(inputs, targets, len(everybody), weight, references=references)
