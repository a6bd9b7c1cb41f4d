"""Requests to stop, and meetings of groups, outside of collectives.

All of it goes over the store through which the ranks met, so that no rank waits inside a collective
for one that may be hours away, or will never come.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from torch.distributed import Store

from sms_dist.mesh.watchdog import MOST_RANKS_A_SECOND, Watchdog

LISTEN_SECONDS = 0.5  # between two looks at the store; more where there are many ranks
REQUEST = "stop requested"
LEFT = "stopped"
GO, STOP = b"go", b"stop"


class Stopped(Exception):  # noqa: N818  (not an error)
    """The run was asked to stop, and everything that was done is on the disk."""


class Control:
    """Hears requests to stop. `request` may be called by signal handlers: it sets an attribute."""

    def __init__(self, store: Store | None, rank: int, size: int) -> None:
        """`store` is shared by the ranks; None if there is one rank only."""
        self.requested: str | None = None  # why to stop, as soon as any rank asks for it
        self.lost: str | None = None  # the fault, once a rank is lost
        self.on_loss: Callable[[str], None] = lambda fault: None  # called in another thread
        self._store = store
        self._rank, self._size = rank, size
        self._num_meetings = 0
        # The store serves all ranks: the more there are, the less often each may ask.
        self._listen_seconds = max(LISTEN_SECONDS, size / MOST_RANKS_A_SECOND)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.watchdog: Watchdog | None = None  # none if there is one rank only

    def moved(self, step: int | None = None) -> None:
        """Note that the main thread works, and will move on."""
        if self.watchdog is not None:
            self.watchdog.tick(step)

    def set_place(self, place: str) -> None:
        """Set the position that is reported if this rank is lost; it need not move yet."""
        if self.watchdog is not None:
            self.watchdog.rest()
            self.watchdog.place = place

    def request(self, reason: str) -> None:
        """Ask all ranks to stop at their next safe point."""
        self.requested = self.requested or reason

    def lose(self, fault: str) -> None:
        """Note that a rank is gone: the others stop at their next safe point, and do not wait."""
        self.lost = self.lost or fault
        self.request(fault)
        self.on_loss(fault)

    def listen(self, stop_file: Path) -> None:
        """Listen for requests of other ranks; the first rank also looks for the file."""
        file = stop_file if self._rank == 0 else None
        # A connection of its own: while one thread waits for a key the others could not ask.
        store = None if self._store is None else self._store.clone()  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._listen, args=(store, file), name="control", daemon=True
        )
        self._thread.start()

    def meet(self) -> None:
        """Wait until every rank is here; Stopped on all of them if one wants to stop before.

        Every rank must call, the same number of times.
        """
        self._num_meetings += 1
        self.set_place("waiting for the other groups")
        if self._store is None:
            is_stop = self.requested is not None
        else:
            is_stop = self._met(self._store, f"meeting {self._num_meetings}") == STOP
        if is_stop:
            raise Stopped

    def leave(self) -> str:
        """Wait until every rank that is left has stopped; return why they have.

        The launcher ends all ranks when the first one ends, and with it goes the store. Every rank
        that stops on request must call.
        """
        if self._store is not None:
            self._exchange(self._store)
            self._store.add(LEFT, 1)
            while self._store.add(LEFT, 0) < self._size and self.lost is None:
                time.sleep(self._listen_seconds / 10)
            self._exchange(self._store)
        return self.lost or self.requested or "no reason given"

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def fail(self, text: str) -> None:
        """Tell the others that this rank ends, and why, and stop listening.

        The caller tells the user.
        """
        if self.watchdog is not None:
            self.watchdog.report(text, is_said=True)
        self.close()

    def close(self) -> None:
        """Stop listening, and be missed by no rank. Call it before the store or this rank goes."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        if self.watchdog is not None:
            self.watchdog.stop()

    def _met(self, store: Store, name: str) -> bytes:
        """Return the outcome of a meeting, which the first rank that knows it decides for all."""
        if store.add(f"{name}: arrived", 1) == self._size:
            # The last one to arrive honours a request that came before any rank went on.
            return self._decide(store, name, GO if self.requested is None else STOP)
        pause = 0.01
        while not store.check([name]):
            if self.requested is not None:
                return self._decide(store, name, STOP)
            time.sleep(pause)  # waiting inside the store would print a warning at every timeout
            pause = min(2 * pause, self._listen_seconds)
        return bytes(store.get(name))

    def _decide(self, store: Store, name: str, outcome: bytes) -> bytes:
        return bytes(store.compare_set(name, "", outcome.decode()))

    def _listen(self, store: Store | None, file: Path | None) -> None:
        while not self._closed.wait(self._listen_seconds):
            if file is not None and file.exists():
                self.request(f"the file {file}")
            if store is None:
                continue
            try:
                self._exchange(store)
            except dist.DistError:
                return  # the store is gone; the watchdog says so

    def _exchange(self, store: Store) -> None:
        if store.check([REQUEST]):
            self.request(bytes(store.get(REQUEST)).decode())
        elif self.requested is not None:
            store.set(REQUEST, self.requested)
