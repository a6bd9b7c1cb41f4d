"""Wishes to stop, and meetings of groups: what ranks tell each other beside their collectives.

All of it goes over the store through which the ranks found each other, so that nobody waits inside
a collective for somebody who may be hours away, or will never come.
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
    """This rank's ear. `request` may be called in a signal handler: it sets an attribute."""

    def __init__(self, store: Store | None, rank: int, size: int) -> None:
        """`store`: shared by the ranks; None if there is one rank only."""
        self.requested: str | None = None  # why to stop, as soon as any rank wants it
        self.lost: str | None = None  # who will never come any more
        self.on_loss: Callable[[str], None] = lambda fault: None  # told in another thread
        self._store = store
        self._rank, self._size = rank, size
        self._num_meetings = 0
        # The store serves all ranks: the more there are, the less often each may ask.
        self._listen_seconds = max(LISTEN_SECONDS, size / MOST_RANKS_A_SECOND)
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.watchdog: Watchdog | None = None  # none if there is one rank only

    def moved(self, step: int | None = None) -> None:
        """The main thread works, and will move on."""
        if self.watchdog is not None:
            self.watchdog.tick(step)

    def set_place(self, place: str) -> None:
        """What this rank is at, for whoever hears that it is lost; it need not move yet."""
        if self.watchdog is not None:
            self.watchdog.rest()
            self.watchdog.place = place

    def request(self, reason: str) -> None:
        """Ask all ranks to stop at their next safe point."""
        self.requested = self.requested or reason

    def lose(self, fault: str) -> None:
        """A rank is gone: the others stop at their next safe point, and wait for nobody."""
        self.lost = self.lost or fault
        self.request(fault)
        self.on_loss(fault)

    def listen(self, stop_file: Path) -> None:
        """From now on hear of other ranks' wishes; the first rank also looks for the file."""
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
        outcome = GO
        if self.requested is not None and self._store is None:
            outcome = STOP
        elif self._store is not None:
            outcome = self._met(self._store, f"meeting {self._num_meetings}")
        if outcome == STOP:
            raise Stopped

    def leave(self) -> str:
        """Wait until every rank that is left has stopped; why they have.

        Who launched the ranks ends them all when the first one ends, and with it goes the store.
        Every rank that was told to stop must call.
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
        """Tell the others that this rank ends, because of that, and hear no more.

        The user is told by the caller.
        """
        if self.watchdog is not None:
            self.watchdog.report(text, is_said=True)
        self.close()

    def close(self) -> None:
        """Hear no more, and be missed by nobody. Before the store goes, or this rank."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
        if self.watchdog is not None:
            self.watchdog.stop()

    def _met(self, store: Store, name: str) -> bytes:
        """Whoever is the first to say what comes of the meeting has said it for all."""
        if store.add(f"{name}: arrived", 1) == self._size:
            # The last one sees to it that a wish is heard which came before anybody went on.
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
