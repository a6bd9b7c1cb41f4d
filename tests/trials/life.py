"""One launch of a run, from its start to its end: waits for a moment, and kills."""

from __future__ import annotations

import time
from dataclasses import dataclass

from chances import Aim, Chances
from inspection import damages, newest_point
from moments import TRAINING, WRITING, progress_of, training_of, writers
from patience import TrialError, happens
from processes import are_gone, kill_all
from variants import Variant
from watch import Watch

GONE_SECONDS = {"rank": 60.0, "agent": 15.0, "host": 15.0}  # in which all that is to end is gone


@dataclass
class Kill:
    """What came of one."""

    target: str  # rank, agent or host
    rank: int
    aimed: str
    stage: str  # that it hit
    phase: int
    by_agent: bool  # does the agent start the ranks again?
    time: float  # monotonic
    gone_seconds: float = 0.0  # until all that had to end was gone
    orphans: int = 0  # that were not
    seconds_again: float | None = None  # of training that the victim's group has to do again
    back_seconds: float | None = None  # until the next ranks work; None: they were killed before


class Life:
    """Between the start of a launch and its end."""

    def __init__(self, watch: Watch, variant: Variant, has_restarts: bool) -> None:
        self.faults: list[str] = []
        self._watch, self._variant, self._has_restarts = watch, variant, has_restarts
        self._is_over = False

    def kill(self, aim: Aim, chances: Chances) -> Kill | None:
        """Wait for the moment and kill; None if the launch ends before, or has ended."""
        if self._is_over:
            return None
        watch, rank = self._watch, chances.random.randrange(self._variant.ranks)
        watch.group = rank // self._variant.per_candidate if aim.target == "rank" else 0
        writing = watch.until(aim.stage, aim.skip)
        if writing is None:
            return None
        time.sleep(aim.fraction * chances.durations.typical(aim.stage))
        if not watch.until_all_ranks():
            return None
        rank = next((r for r, pid in watch.ranks.items() if pid in writing), rank)
        victims = self._victims(aim.target, rank)
        kill = self._about(aim, rank, victims)
        if watch.has_ended() or not kill_all(victims):
            return None
        self._see_what_comes(kill)
        return kill

    def end(self) -> bool:
        """Wait for the end of the launch; whether the run is finished."""
        status = self._watch.until_end()
        if status and not self._is_over:
            raise TrialError(f"the launch ended with status {status}, though nobody had killed it")
        if not happens(lambda: not self._watch.processes.all(), seconds=10):
            self.faults.append(f"processes outlive the run: {self._watch.processes.all()}")
        return status == 0

    def _victims(self, target: str, rank: int) -> set[int]:
        processes = self._watch.processes
        if target == "rank":
            return {self._watch.ranks[rank]}
        return {processes.agent} if target == "agent" else processes.all()

    def _about(self, aim: Aim, rank: int, victims: set[int]) -> Kill:
        """What is hit now: the stage of the victim's group, or what the victim writes beside it."""
        watch = self._watch
        watch.look()
        dying = victims if aim.target == "rank" else set(watch.ranks.values())
        stage = next((k for k in WRITING if writers(watch.folder, k) & dying), watch.stage)
        found = progress_of(watch.folder, watch.group)
        by_agent = aim.target == "rank" and self._has_restarts
        phase = found.phase if found else 0
        return Kill(aim.target, rank, aim.stage, stage, phase, by_agent, time.monotonic())

    def _see_what_comes(self, kill: Kill) -> None:
        """All that has to end does, and leaves a folder that can be read."""
        watch, now = self._watch, time.time()
        dying = set(watch.ranks.values())
        self._is_over = not kill.by_agent
        is_gone = happens(
            lambda: are_gone(dying) and (kill.by_agent or watch.has_ended()),
            GONE_SECONDS[kill.target],
        )
        kill.gone_seconds = time.monotonic() - kill.time
        left = watch.processes.all() if self._is_over else set()
        left |= set() if is_gone else {pid for pid in dying if not are_gone({pid})}
        if left:
            kill.orphans = len(left)
            told = f"{len(left)} processes left {kill.gone_seconds:.0f} s after the {kill.target}"
            self.faults.append(f"{told} was killed in {kill.stage}")
            kill_all(left)
        self.faults += damages(watch.folder)
        kill.seconds_again = self._again(now)
        watch.begin()

    def _again(self, now: float) -> float | None:
        """Seconds of training since the last recovery point, or since the training began."""
        watch = self._watch
        found = progress_of(watch.folder, watch.group)
        if found is None or watch.stage not in TRAINING:
            return None
        point = newest_point(watch.folder, training_of(found))
        began = max(watch.stage_since, point[1]) if point else watch.stage_since
        return max(0.0, now - began)
