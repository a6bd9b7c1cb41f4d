"""One run that is killed at drawn moments and started again until it is finished."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chances import Aim, Chances
from launching import MAIN, ROOT, Launch, launched, main_arguments
from life import Kill, Life
from variants import Variant
from watch import Watch

TAIL = 3000  # characters of a log
LOCAL_RANKS = ROOT / "sms_dist" / "start" / "local_ranks.py"


class Disturbed:
    """A run, and what happens to it."""

    def __init__(self, variant: Variant, folder: Path, chances: Chances, budget: int,
                 tell: Callable[[Kill], None]) -> None:  # fmt: skip
        """`budget`: kills at most; `tell` hears of each."""
        self.kills: list[Kill] = []
        self.faults: list[str] = []
        self._variant, self._folder, self._chances = variant, folder, chances
        self._budget, self._tell = budget, tell
        self._aim: Aim | None = None
        self._awake: list[float] = []

    def run(self) -> float:
        """Seconds until the run was finished; TrialError if it does not get there."""
        start, is_finished = time.monotonic(), False
        while not is_finished:
            is_finished = self._start()
        return time.monotonic() - start

    def _start(self) -> bool:
        """One launch; whether the run is finished after it."""
        restarts = self._chances.restarts()
        with started(self._variant, self._folder, restarts) as launch:
            watch = Watch(launch, self._variant, self._folder)
            life = Life(watch, self._variant, has_restarts=restarts > 0)
            try:
                while (aim := self._next_aim()) and (kill := life.kill(aim, self._chances)):
                    self._record(kill)
                return life.end()
            finally:
                self.faults += life.faults
                self._tell_back(watch.awake)

    def _next_aim(self) -> Aim | None:
        """The one that did not come to pass in an earlier life, if there is one."""
        if len(self.kills) >= self._budget:
            return None
        self._aim = self._aim or self._chances.aim()
        return self._aim

    def _record(self, kill: Kill) -> None:
        self._aim = None
        self.kills.append(kill)
        self._chances.hits.update({kill.stage, kill.aimed})
        self._tell(kill)

    def _tell_back(self, awake: list[float]) -> None:
        """Match the kills with the times at which ranks began to work."""
        self._awake += awake
        times = [*(kill.time for kill in self.kills), math.inf]
        for kill, next_kill in zip(self.kills, times[1:], strict=True):
            back = [moment for moment in self._awake if kill.time < moment < next_kill]
            kill.back_seconds = back[0] - kill.time if back else None


@contextmanager
def started(variant: Variant, folder: Path, restarts: int = 0) -> Iterator[Launch]:
    """The run at work under torchrun, which may start the ranks again so many times."""
    words = ["--standalone", f"--nproc-per-node={variant.ranks}", f"--max-restarts={restarts}"]
    arguments = [*words, MAIN, *main_arguments(folder, *variant.all_settings)]
    with launched(LOCAL_RANKS, arguments, logs_of(folder)) as launch:
        yield launch


def logs_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}_logs")


def tails(folder: Path) -> str:
    """The ends of what the last launch of a run said."""
    logs = sorted(logs_of(folder).glob("*.*"), key=lambda path: path.stat().st_mtime)[-2:]
    return "\n".join(f"--- {log}\n{log.read_text(errors='replace')[-TAIL:]}" for log in logs)
