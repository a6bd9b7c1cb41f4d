"""Images in shards that are read while training: the data set, its loaders, their worker processes.

webdataset reads the samples of a shard in their order only. Here each is read at its place, so that
an epoch goes on from any step, with any number of workers, with the same batches.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.config import DataConfig
from sms_dist.data.augment import crop_draws, of_batches, random_resized_crop, takes_parts
from sms_dist.data.card import Card
from sms_dist.data.dataset import DatasetInfo, Split, grouped, is_validation
from sms_dist.data.decode import Decoded, Stack, decode, extensions, fit
from sms_dist.data.loader import Batch, Loader, Loaders, Pixels, Step, windowed
from sms_dist.data.shards import ReadError, Shards, open_shards

FIELD = "data.max_bad_samples"
SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Part:
    """A split: some samples of some shards."""

    shards: Shards
    numbers: NDArray[np.int64]  # in the shards, of each sample of the split

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def sizes(self) -> list[int]:
        """Return how many of its samples lie in each shard."""
        sizes: list[int] = np.diff(np.searchsorted(self.numbers, self.shards.starts)).tolist()
        return sizes


@dataclass(frozen=True)
class Streamed:
    """A `Dataset` on disk; its batches are those of the one in memory, bit for bit on a CPU."""

    info: DatasetInfo
    train: Part
    validation: Part
    test: Part
    card: Card
    config: DataConfig

    def loaders(self, batch_size: int, device: torch.device) -> Loaders:
        """Return all splits, which share their worker processes; only the training one augments."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        classes = torch.arange(len(self.info.classes))
        groups = grouped(Split(classes, classes), self.info, self.config.subgroups).subgroups
        reader = BatchReader(splits, self.card, self.config, groups)
        workers = Workers(reader, self.config, is_pinned=device.type == "cuda")
        pixels = Pixels(self.card.mean, self.card.std, device)
        num_mixed = self.config.shuffle_shards
        train, validation, test = (
            Streaming(name, part.sizes, batch_size, num_mixed, pixels, workers, device)
            for name, part in splits.items()
        )
        return Loaders(
            train, validation, test, pixels, test.stored, damaged=lambda: tuple(workers.damaged)
        )


def open_streamed(card: Card, config: DataConfig, info: DatasetInfo) -> Streamed:
    """Return the data set of data.path; shards are copied if they have to be, and indexed."""
    train = open_shards(card, config, "train", info.num_train)
    test = open_shards(card, config, "test", info.num_test)
    flags = is_validation(info, config).numpy()
    parts = (
        Part(train, np.flatnonzero(~flags)),
        Part(train, np.flatnonzero(flags)),
        Part(test, np.arange(info.num_test)),
    )
    return Streamed(info, *parts, card, config)


class Streaming(Loader):
    """One split, read by the workers while it is asked for, and somewhat ahead."""

    def __init__(
        self,
        split: str,
        sizes: Sequence[int],
        batch_size: int,
        num_mixed: int | None,
        pixels: Pixels,
        workers: Workers,
        device: torch.device,
    ) -> None:
        """`sizes`: samples of the split in each shard, of which `num_mixed` are mixed at a time."""
        super().__init__(sum(sizes), batch_size)
        self._split, self._sizes, self._num_mixed = split, tuple(sizes), num_mixed
        self._pixels, self._workers, self._device = pixels, workers, device

    def stored(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images (uint8) and targets as they are stored, without those that are damaged."""
        request = Request(self._split, np.arange(start, stop), stop - start, None)
        (batch,) = self._workers.run([request])
        return batch.images, batch.targets

    def _order(self, order: Stream) -> Tensor:
        if self._num_mixed is None:
            return super()._order(order)
        return windowed(self._sizes, self._num_mixed, order)

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        requests = [
            Request(self._split, step.own.numpy(), len(step.everyone), augmentation)
            for step in steps
        ]
        for batch in self._workers.run(requests):
            inputs = self._pixels.normalised(self._moved(batch.images))
            targets = self._moved(batch.targets).long()
            subgroups = None if batch.subgroups is None else self._moved(batch.subgroups)
            yield Batch((inputs,), targets, batch.size, float(batch.size), subgroups)

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)


class Request(NamedTuple):
    """One batch: which samples of which split, by their places in it."""

    split: str
    samples: NDArray[np.int64]
    size: int  # of the step over all ranks
    augmentation: Stream | None  # None: as they are stored, without those that are damaged


class RawBatch(NamedTuple):
    """The answer to a request; nothing but `bad` and `fault` counts when there is a fault."""

    images: Tensor  # uint8, N x C x H x W
    targets: Tensor  # classes (int64, N) or masks (uint8, N x H x W)
    subgroups: Tensor | None  # int64, N
    size: int
    bad: tuple[str, ...] = ()  # what is wrong with samples that were left out
    fault: str | None = None  # why there is no batch


NOTHING = RawBatch(torch.empty(0), torch.empty(0), None, 0)


class BatchReader:
    """Reads batches in worker processes; a request gives the same bits wherever it is read."""

    def __init__(
        self,
        splits: Mapping[str, Part],
        card: Card,
        config: DataConfig,
        class_subgroups: Tensor | None,
    ) -> None:
        """`class_subgroups`: the sub-group of each class, where data.subgroups groups them."""
        self._splits, self._card, self._class_subgroups = splits, card, class_subgroups
        self._max_bad = config.max_bad_samples
        self._extensions = extensions(card)
        self._augment = of_batches(card, config.augment)
        self._takes_parts = takes_parts(card, config.augment)

    def __getitem__(self, request: Request) -> RawBatch:
        bad: dict[str, None] = {}
        try:
            return self._read(request, bad)
        except (_NoBatchError, ReadError) as error:
            return NOTHING._replace(bad=tuple(bad), fault=str(error))

    def _read(self, request: Request, bad: dict[str, None]) -> RawBatch:
        stack, epoch = Stack(self._card, len(request.samples)), request.augmentation
        ids = torch.from_numpy(request.samples)
        draws = crop_draws(ids, epoch) if epoch is not None and self._takes_parts else None
        for place, index in enumerate(request.samples.tolist()):
            if epoch is None:
                sample = self._decoded(request.split, index, bad)
            else:
                sample = self._replaced(request.split, index, bad)
            if sample is not None and draws is not None:
                part = random_resized_crop(sample.image, self._card.size, draws[place])
                stack.add(sample._replace(image=part))
            elif sample is not None:
                stack.add(fit(self._card, sample))
        split = stack.split()
        images, targets, subgroups = split.images, split.targets, split.subgroups
        if self._class_subgroups is not None:
            subgroups = self._class_subgroups[targets]
        if epoch is not None and self._augment is not None:
            images, targets = self._augment(images, targets, ids, epoch)
        num_missing = len(request.samples) - stack.num_samples
        return RawBatch(images, targets, subgroups, request.size - num_missing, tuple(bad))

    def _replaced(self, split: str, index: int, bad: dict[str, None]) -> Decoded:
        """Return the sample, or the next one that is not damaged: steps keep their size."""
        num_samples = len(self._splits[split])
        for offset in range(num_samples):
            sample = self._decoded(split, (index + offset) % num_samples, bad)
            if sample is not None:
                return sample
        raise _NoBatchError(f"all {num_samples} samples for {split} are damaged")

    def _decoded(self, split: str, index: int, bad: dict[str, None]) -> Decoded | None:
        """Return the sample in its stored size; None, and a line in `bad`, if it is damaged."""
        part = self._splits[split]
        number = int(part.numbers[index])
        fields = part.shards.fields(number, self._extensions)
        try:
            return decode(self._card, fields, part.shards.name(number))
        except ValueError as error:
            bad[str(error)] = None
        if len(bad) > self._max_bad:
            raise _NoBatchError("too many damaged samples")
        return None


class _NoBatchError(Exception):
    """Too many samples are damaged."""


Task: TypeAlias = tuple[int, Request]  # the number of the run that it belongs to


class Workers:
    """Processes that read batches ahead, the same ones for all splits and epochs.

    They start when they are first needed and end with this object (or with this process). Without
    workers the caller itself reads.
    """

    def __init__(self, reader: BatchReader, config: DataConfig, is_pinned: bool) -> None:
        self.damaged: dict[str, None] = {}  # a line for each damaged sample: shard, key, fault
        self._max_bad = config.max_bad_samples
        self._reader = reader
        self._run = torch.zeros((), dtype=torch.int64)  # the number of the last one
        self._run.share_memory_()  # type: ignore[no-untyped-call]  # workers look at it
        self._tasks = _Tasks()
        self._loader: torch.utils.data.DataLoader[RawBatch] | None = None
        if config.workers:
            self._loader = torch.utils.data.DataLoader(
                _LastRun(reader, self._run),
                batch_size=None,  # a task is a batch
                sampler=self._tasks,
                num_workers=config.workers,
                prefetch_factor=config.prefetch,
                persistent_workers=True,
                pin_memory=is_pinned,
                worker_init_fn=_begin_worker,
                multiprocessing_context="fork",  # they share the positions of a large set
                generator=torch.Generator(),  # else it draws from the one that dropout uses
            )
        # Somebody else holds the loader as well, until this object is gone: if it is part of a
        # cycle (a traceback, say), the loader's queues would be cleared before it tells its
        # workers, by them, to end.
        weakref.finalize(self, id, self._loader)

    def run(self, requests: Sequence[Request]) -> Iterator[RawBatch]:
        """Yield the batches of requests in their order; any number of runs may be open.

        ValueError in one line where too many samples are damaged or a shard cannot be read.
        """
        if self._loader is None:
            yield from map(self._checked, map(self._reader.__getitem__, requests))
            return
        done = 0
        while done < len(requests):
            self._run += 1
            number = int(self._run)
            self._tasks.waiting = [(number, request) for request in requests[done:]]
            batches = iter(self._loader)  # what is still to be read for others is dropped
            while number == int(self._run) and done < len(requests):
                done += 1
                yield self._checked(next(batches))

    def _checked(self, batch: RawBatch) -> RawBatch:
        self.damaged |= dict.fromkeys(batch.bad)
        if len(self.damaged) > self._max_bad:
            last = next(reversed(self.damaged))
            if self._max_bad == 0:
                raise ValueError(f"{last}; set {FIELD} to skip damaged samples")
            raise ValueError(
                f"{len(self.damaged)} samples are damaged, more than {FIELD}={self._max_bad};"
                f" the last one: {last}"
            )
        if batch.fault is not None:
            raise ValueError(batch.fault)
        return batch


class _Tasks:
    """What a DataLoader calls a sampler: what it is to read when it is started again."""

    waiting: Sequence[Task] = ()

    def __iter__(self) -> Iterator[Task]:
        return iter(self.waiting)


class _LastRun(torch.utils.data.Dataset[RawBatch]):
    """Reads for the last run only: workers leave out what nobody waits for any more."""

    def __init__(self, reader: BatchReader, last: Tensor) -> None:
        self._reader, self._last = reader, last

    def __getitem__(self, task: Task) -> RawBatch:
        number, request = task
        return self._reader[request] if number == int(self._last) else NOTHING


def _begin_worker(worker: int) -> None:
    """Make a worker end when its parent says so or is gone, and on no other signal.

    Ctrl-C, torchrun and Slurm signal all processes at once, while the parent still needs batches
    until it has saved its state.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # threads inherit it
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    """End on a SIGTERM of the parent (so Python ends daemons when it ends itself), or with it."""
    while os.getppid() == parent:
        signalled = signal.sigtimedwait({signal.SIGTERM}, SECONDS_BETWEEN_LOOKS)
        if signalled is not None and signalled.si_pid == parent:
            break
    os._exit(0)
