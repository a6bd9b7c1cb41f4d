"""Worker processes that read batches ahead, the same ones for all splits and epochs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sms_dist.data.streaming.reader import NOTHING, Raw, Reader, Request

SECONDS_BETWEEN_LOOKS = 1.0
Task: TypeAlias = tuple[int, Request]  # whose turn it belongs to


class Pool:
    """`run` gives the batches of requests in their order, for any number of workers.

    The processes start when they are first needed and end with the pool (or with this process).
    """

    def __init__(self, reader: Reader, workers: int, prefetch: int, is_pinned: bool) -> None:
        self._reader = reader
        self._turn = torch.zeros((), dtype=torch.int64)
        self._turn.share_memory_()  # type: ignore[no-untyped-call]  # workers look at it
        self._tasks = _Tasks()
        self._loader = None
        if workers:
            self._loader = _loader(
                _InTurn(reader, self._turn), self._tasks, workers, prefetch, is_pinned
            )
        # The loader is no part of cycles that the pool may belong to (a traceback, say): else its
        # queues would be cleared before it tells its workers, by them, to end.
        weakref.finalize(self, _released, self._loader)

    def run(self, requests: Sequence[Request]) -> Iterator[Raw]:
        """The batches in the order of the requests; any number of runs may be open."""
        if self._loader is None:
            return map(self._reader.__getitem__, requests)
        return self._read_ahead(self._loader, requests)

    def _read_ahead(self, loader: DataLoader[Raw], requests: Sequence[Request]) -> Iterator[Raw]:
        done = 0
        while done < len(requests):
            self._turn += 1
            turn = int(self._turn)
            self._tasks.waiting = [(turn, request) for request in requests[done:]]
            batches = iter(loader)  # what is still to be read for others is dropped
            while turn == int(self._turn) and done < len(requests):
                batch = next(batches)
                done += 1
                yield batch


class _Tasks:
    """What a DataLoader calls a sampler: what it is to read when it is started again."""

    waiting: Sequence[Task] = ()

    def __iter__(self) -> Iterator[Task]:
        return iter(self.waiting)


class _InTurn(Dataset[Raw]):
    """Workers do not read what nobody waits for any more."""

    def __init__(self, reader: Reader, turn: Tensor) -> None:
        self._reader, self._turn = reader, turn

    def __getitem__(self, task: Task) -> Raw:
        turn, request = task
        return self._reader[request] if turn == int(self._turn) else NOTHING


def _released(loader: DataLoader[Raw] | None) -> None:
    """Nobody uses the loader any more."""


def _loader(
    data: _InTurn, tasks: Iterable[Task], workers: int, prefetch: int, is_pinned: bool
) -> DataLoader[Raw]:
    """Forked: workers share the positions of a large set, and start in milliseconds."""
    return DataLoader(
        data,
        batch_size=None,  # a task is a batch
        sampler=tasks,
        num_workers=workers,
        prefetch_factor=prefetch,
        persistent_workers=True,
        pin_memory=is_pinned,
        worker_init_fn=_begin_worker,
        multiprocessing_context="fork",
        generator=torch.Generator(),  # else it draws from the one that dropout uses
    )


def _begin_worker(worker: int) -> None:
    """A worker ends when its parent says so or is gone.

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
        told = signal.sigtimedwait({signal.SIGTERM}, SECONDS_BETWEEN_LOOKS)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)
