"""How long something has lasted, without the time in which this process itself stood still."""

from __future__ import annotations

import time

MOST = 1.5


class Patience:
    """Seconds between looks add up, but a late look counts for little more than one in time.

    So nobody is accused of silence because of a suspended job (Slurm, Ctrl-Z) or a busy machine.
    """

    def __init__(self, look_seconds: float) -> None:
        self._longest = MOST * look_seconds
        self._last = time.monotonic()
        self.seconds = 0.0

    def look(self) -> float:
        """The seconds that have come on since the last look."""
        now = time.monotonic()
        passed = min(now - self._last, self._longest)
        self._last = now
        self.seconds += passed
        return passed

    def restart(self) -> None:
        self.seconds = 0.0
