"""Waiting for a launch: until something is so, or it has ended, or nothing happens any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

QUIET_SECONDS = 120.0  # without a change in the run folder: the run hangs
LOOK_SECONDS = 1.0  # between two looks at whether it changed


class TrialError(Exception):
    """The run did what it must not do; a sentence for people."""


class Patience:
    """Ends when no file of a folder changes for too long."""

    def __init__(self, folder: Path, seconds: float = QUIET_SECONDS) -> None:
        self._folder, self._seconds = folder, seconds
        self._newest, self._looked = 0, 0.0
        self._changed = time.monotonic()

    def check(self) -> None:
        """TrialError if it has ended."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        newest = self._newest_change()
        if newest != self._newest:
            self._newest, self._changed = newest, now
        elif now - self._changed > self._seconds:
            raise TrialError(f"hangs: nothing changed in {self._folder} for {self._seconds:.0f} s")

    def _newest_change(self) -> int:
        times = []
        for path in self._paths():
            try:
                times.append(os.stat(path).st_mtime_ns)
            except OSError:  # it went away meanwhile
                continue
        return max(times, default=0)

    def _paths(self) -> Iterator[str]:
        """Not by `rglob`, which fails where a folder goes before it is listed."""
        for folder, _, files in os.walk(self._folder):
            yield folder
            yield from (os.path.join(folder, name) for name in files)


def wait_until(condition: Callable[[], bool], patience: Patience, pause: float = 0.01) -> None:
    """TrialError if nothing happens for too long before the condition holds."""
    while not condition():
        patience.check()
        time.sleep(pause)


def happens(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition comes to hold in so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
