"""Parallel text that lies on the device as tokens and becomes batches there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from sms_dist.base.randomness import Stream
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.loader import Batch, Loader, Loaders, Step
from sms_dist.data.texts.packed import Packed

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


class ResidentTexts(Loader):
    """Pairs in device memory; each batch is about as wide as its longest sentence."""

    def __init__(self, sentences: Sentences, batch_size: int, device: torch.device) -> None:
        super().__init__(len(sentences), batch_size)
        self._sentences = sentences.to(device)

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        for step in steps:
            yield self._batch(step)

    def _batch(self, step: Step) -> Batch:
        """What the other ranks have is known here: their tokens need not be asked for."""
        indices = step.own
        sources = self._sentences.sources.padded(indices, WIDTHS)
        targets = self._sentences.targets.padded(indices, WIDTHS)
        weight = float(self._sentences.targets.num_tokens(step.everyone))
        texts = self._sentences.references
        references = tuple(texts[i] for i in indices.tolist()) if texts else ()
        inputs = (sources, F.pad(targets, (1, 0), value=START)[:, :-1])
        return Batch(inputs, targets, len(step.everyone), weight, references=references)
