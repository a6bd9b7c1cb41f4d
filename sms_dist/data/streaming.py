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
    splits: Mapping[str, Part]  # train, validation and test
    card: Card
    config: DataConfig

    def loaders(self, batch_size: int, device: torch.device) -> Loaders:
        """Return all splits, which share their worker processes; only the training one augments."""
        workers = Workers(BatchReader(self), self.config, is_pinned=device.type == "cuda")
        pixels = Pixels(self.card.mean, self.card.std, device)
        num_mixed = self.config.shuffle_shards
        train, validation, test = (
            Streaming(name, part.sizes, batch_size, num_mixed, pixels, workers, device)
            for name, part in self.splits.items()
        )
        return Loaders(
            train, validation, test, pixels, test.stored, damaged=lambda: tuple(workers.damaged)
        )


def open_streamed(card: Card, config: DataConfig, info: DatasetInfo) -> Streamed:
    """Return the data set of data.path; shards are copied if they have to be, and indexed."""
    train = open_shards(card, config, "train", info.num_train)
    test = open_shards(card, config, "test", info.num_test)
    flags = is_validation(info, config).numpy()
    splits = {
        "train": Part(train, np.flatnonzero(~flags)),
        "validation": Part(train, np.flatnonzero(flags)),
        "test": Part(test, np.arange(info.num_test)),
    }
    return Streamed(info, splits, card, config)


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
Task: TypeAlias = tuple[int, Request]  # the number of the run that a request belongs to


class BatchReader(torch.utils.data.Dataset[RawBatch]):
    """Reads batches, in worker processes or not; a request gives the same bits everywhere."""

    def __init__(self, dataset: Streamed) -> None:
        card, config = dataset.card, dataset.config
        self._dataset, self._card, self._max_bad = dataset, card, config.max_bad_samples
        self._extensions = extensions(card)
        self._augment = of_batches(card, config.augment)
        self._takes_parts = takes_parts(card, config.augment)
        classes = torch.arange(len(dataset.info.classes))
        by_class = grouped(Split(classes, classes), dataset.info, config.subgroups)
        self._class_subgroups = by_class.subgroups  # where data.subgroups groups classes
        self.last_run = torch.zeros((), dtype=torch.int64)
        self.last_run.share_memory_()  # type: ignore[no-untyped-call]  # workers look at it

    def __getitem__(self, task: Task) -> RawBatch:
        """Return the batch of a task; nothing if its run is over and nobody waits for it."""
        run, request = task
        if run != int(self.last_run):
            return NOTHING
        bad: dict[str, None] = {}
        try:
            return self._read(request, bad)
        except (_NoBatchError, ReadError) as error:
            return NOTHING._replace(bad=tuple(bad), fault=str(error))

    def _read(self, request: Request, bad: dict[str, None]) -> RawBatch:
        stack, epoch = Stack(self._card, len(request.samples)), request.augmentation
        ids = torch.from_numpy(request.samples)
        draws = crop_draws(ids, epoch) if epoch is not None and self._takes_parts else None
        for place, index in enumerate(ids.tolist()):
            read = self._decoded if epoch is None else self._replaced
            sample = read(request.split, index, bad)
            if sample is None:
                continue
            if draws is None:
                stack.add(fit(self._card, sample))
            else:
                part = random_resized_crop(sample.image, self._card.size, draws[place])
                stack.add(sample._replace(image=part))
        split = stack.split()
        images, targets, subgroups = split.images, split.targets, split.subgroups
        if self._class_subgroups is not None:
            subgroups = self._class_subgroups[targets]
        if epoch is not None and self._augment is not None:
            images, targets = self._augment(images, targets, ids, epoch)
        size = request.size - len(ids) + len(targets)
        return RawBatch(images, targets, subgroups, size, tuple(bad))

    def _replaced(self, split: str, index: int, bad: dict[str, None]) -> Decoded:
        """Return the sample, or the next one that is not damaged: steps keep their size."""
        num_samples = len(self._dataset.splits[split])
        for offset in range(num_samples):
            sample = self._decoded(split, (index + offset) % num_samples, bad)
            if sample is not None:
                return sample
        raise _NoBatchError(f"all {num_samples} samples for {split} are damaged")

    def _decoded(self, split: str, index: int, bad: dict[str, None]) -> Decoded | None:
        """Return the sample in its stored size; None, and a line in `bad`, if it is damaged."""
        part = self._dataset.splits[split]
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


class Workers:
    """Processes that read batches ahead, the same ones for all splits and epochs.

    They start when they are first needed and end with this object (or with this process). Without
    workers the caller itself reads.
    """

    def __init__(self, reader: BatchReader, config: DataConfig, is_pinned: bool) -> None:
        self.damaged: dict[str, None] = {}  # a line for each damaged sample: shard, key, fault
        self._max_bad = config.max_bad_samples
        self._reader = reader
        self._tasks: list[Task] = []  # what the loader reads when it is started again
        self._loader: torch.utils.data.DataLoader[RawBatch] | None = None
        if config.workers:
            self._loader = torch.utils.data.DataLoader(
                reader,
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
        done, last_run = 0, self._reader.last_run
        while done < len(requests):
            last_run += 1
            run = int(last_run)
            self._tasks[:] = [(run, request) for request in requests[done:]]
            batches: Iterator[RawBatch] = map(self._reader.__getitem__, self._tasks)
            if self._loader is not None:
                batches = iter(self._loader)  # what is still to be read for others is dropped
            while run == int(last_run) and done < len(requests):
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
