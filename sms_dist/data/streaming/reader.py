"""Turns requests into batches of decoded, augmented images: the work of worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.data.card import Card
from sms_dist.data.dataset import Augment
from sms_dist.data.decode import Decoded, decode, fit_test, fit_train, num_draws
from sms_dist.data.streaming.store import ReadError, Store


class Request(NamedTuple):
    """One batch: which samples of which split, by their places in it."""

    split: str
    samples: NDArray[np.int64]
    size: int  # of the step over all ranks
    augmentation: Stream | None  # None: in stored form, without those that are damaged


class Raw(NamedTuple):
    """What became of a request; nothing but `bad` and `fault` counts when there is a fault."""

    images: Tensor  # uint8, N x C x H x W
    targets: Tensor  # classes (int64, N) or masks (uint8, N x H x W)
    subgroups: Tensor | None  # int64, N
    size: int
    bad: tuple[str, ...] = ()  # what is wrong with samples that were left out
    fault: str | None = None  # why there is no batch


NOTHING = Raw(torch.empty(0), torch.empty(0), None, 0)


@dataclass(frozen=True)
class Part:
    """A split: some samples of a store."""

    store: Store
    numbers: NDArray[np.int64]  # in the store, of each sample of the split

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def sizes(self) -> list[int]:
        """How many of its samples lie in each shard of the store."""
        sizes: list[int] = np.diff(np.searchsorted(self.numbers, self.store.starts)).tolist()
        return sizes


class Reader:
    """Reads batches. The same request gives the same bits wherever it is read."""

    def __init__(
        self,
        splits: Mapping[str, Part],
        card: Card,
        augment: Augment | None,
        is_augmenting: bool,
        class_subgroups: Tensor | None,
        max_bad: int,
    ) -> None:
        self._splits, self._card, self._augment = splits, card, augment
        self._num_draws = num_draws(card) if is_augmenting else 0
        self._class_subgroups = class_subgroups
        self._max_bad = max_bad
        fields = (card.target, card.subgroup or "")
        self._extensions = (*card.images, *(field.partition(":")[0] for field in fields))

    def __getitem__(self, request: Request) -> Raw:
        bad: dict[str, None] = {}
        try:
            return self._read(request, bad)
        except (_NoBatchError, ReadError) as error:
            return NOTHING._replace(bad=tuple(bad), fault=str(error))

    def _read(self, request: Request, bad: dict[str, None]) -> Raw:
        part = self._splits[request.split]
        if request.augmentation is None:
            found = [self._stored(part, int(i), bad) for i in request.samples]
            good = [sample for sample in found if sample is not None]
            return self._collated(good, request.size - len(found) + len(good), bad)
        ids = torch.from_numpy(request.samples)
        draws = request.augmentation.uniform(ids, self._num_draws).tolist()
        samples = [
            self._replaced(request.split, int(i), numbers, bad)
            for i, numbers in zip(request.samples, draws, strict=True)
        ]
        raw = self._collated(samples, request.size, bad)
        if self._augment is None:
            return raw
        images, targets = self._augment(raw.images, raw.targets, ids, request.augmentation)
        return raw._replace(images=images, targets=targets)

    def _stored(self, part: Part, index: int, bad: dict[str, None]) -> Decoded | None:
        """None if the sample is damaged."""
        sample = self._decoded(part, index, bad)
        return None if sample is None else fit_test(self._card, sample)

    def _replaced(
        self, split: str, index: int, draws: list[float], bad: dict[str, None]
    ) -> Decoded:
        """The sample, or the next one that is not damaged: steps keep their size on all ranks."""
        part = self._splits[split]
        for offset in range(len(part)):
            sample = self._decoded(part, (index + offset) % len(part), bad)
            if sample is not None:
                if draws:
                    return fit_train(self._card, sample, draws)
                return fit_test(self._card, sample)
        raise _NoBatchError(f"all {len(part)} samples for {split} are damaged")

    def _decoded(self, part: Part, index: int, bad: dict[str, None]) -> Decoded | None:
        number = int(part.numbers[index])
        fields = part.store.fields(number, self._extensions)
        try:
            return decode(self._card, fields, part.store.name(number))
        except ValueError as error:
            bad[str(error)] = None
        if len(bad) > self._max_bad:
            raise _NoBatchError("too many damaged samples")
        return None

    def _collated(self, samples: list[Decoded], size: int, bad: dict[str, None]) -> Raw:
        shape = (self._card.channels, *self._card.size)
        images = np.empty((len(samples), *shape), np.uint8)
        for row, sample in zip(images, samples, strict=True):
            row[...] = sample.image
        return Raw(
            torch.from_numpy(images),
            self._targets(samples),
            self._subgroups(samples),
            size,
            tuple(bad),
        )

    def _targets(self, samples: list[Decoded]) -> Tensor:
        if self._card.task == "classification":
            return torch.tensor([sample.target for sample in samples], dtype=torch.int64)
        masks = np.empty((len(samples), *self._card.size), np.uint8)
        for row, sample in zip(masks, samples, strict=True):
            row[...] = sample.target
        return torch.from_numpy(masks)

    def _subgroups(self, samples: list[Decoded]) -> Tensor | None:
        if self._class_subgroups is not None:
            return self._class_subgroups[self._targets(samples)]
        if self._card.subgroup is None:
            return None
        return torch.tensor([sample.subgroup for sample in samples], dtype=torch.int64)


class _NoBatchError(Exception):
    """Too many samples are damaged."""
