"""Worker processes that read batches ahead, the same ones for all splits and epochs."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import DataLoader

from data.streaming.reader import Raw, Reader, Request

SECONDS_BETWEEN_LOOKS = 1.0


class Pool:
    """`run` gives the batches of requests in their order, for any number of workers.

    The processes start when they are first needed and end with the pool (or with this process).
    """

    def __init__(self, reader: Reader, workers: int, prefetch: int, is_pinned: bool) -> None:
        self._reader, self._num_runs = reader, 0
        self._requests = _Requests()
        self._loader = (
            None if workers == 0 else _loader(reader, self._requests, workers, prefetch, is_pinned)
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
            self._requests.waiting = requests[done:]
            self._num_runs += 1
            mine = self._num_runs
            batches = iter(loader)  # workers drop what they were asked before
            while mine == self._num_runs and done < len(requests):
                batch = next(batches)
                done += 1
                yield batch


def _released(loader: DataLoader[Raw] | None) -> None:
    """Nobody uses the loader any more."""


class _Requests:
    """What a DataLoader calls a sampler: what it is to read when it is started again."""

    waiting: Sequence[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.waiting)


def _loader(
    reader: Reader, requests: Iterable[Request], workers: int, prefetch: int, is_pinned: bool
) -> DataLoader[Raw]:
    """Forked: workers share the positions of a large set, and start in milliseconds."""
    return DataLoader(
        reader,
        batch_size=None,  # a request is a batch
        sampler=requests,
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
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # threads inherit it
    threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    """End on a SIGTERM of the parent (so Python ends daemons when it ends itself), or with it."""
    while os.getppid() == parent:
        told = signal.sigtimedwait({signal.SIGTERM}, SECONDS_BETWEEN_LOOKS)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)
