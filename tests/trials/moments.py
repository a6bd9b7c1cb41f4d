"""Where a run is at this moment, as its folder tells."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from sms_dist.base.files import entries
from sms_dist.run.paths import RunPaths
from sms_dist.run.progress import Progress
from sms_dist.run.store import is_complete

START, PRUNE, END = "start", "prune", "end"
SAVE, POINT = "save", "recovery point"
WRITING = (SAVE, POINT)  # what goes on beside a stage: a temporary file or folder is there
TRAINING = ("pretrain", "retrain")
_SAVE = re.compile(r"\.(?:dense|candidate_\d+|soup)\.\w+\.(\d+)\.tmp")
_POINT = re.compile(r"\.rank_\d+\.\w+\.\w+\.(\d+)\.tmp")


def progress_of(folder: Path, group: int) -> Progress | None:
    try:
        return Progress(**json.loads((folder / "progress" / f"group_{group}.json").read_text()))
    except OSError:
        return None


def stage_of(folder: Path, group: int, since: float) -> str:
    """What the group does; START until it tells anything after `since` (seconds since 1970).

    Between the end of one model and the training of the next a phase is begun: PRUNE.
    """
    found = progress_of(folder, group)
    if found is None or found.time <= since:
        return START
    paths = RunPaths(folder)
    if found.phase == 0 and found.stage == "evaluate" and is_complete(paths.dense):
        return PRUNE
    if found.stage == "soup" and is_complete(paths.soup(found.phase)):
        return PRUNE if found.phase < found.num_phases else END
    return END if found.stage == "done" else found.stage


def training_of(progress: Progress) -> str:
    """The name of a training among the recovery points."""
    if progress.stage == "pretrain":
        return "dense"
    return f"phase_{progress.phase}_candidate_{progress.candidate}"


def writers(folder: Path, kind: str) -> set[int]:
    """The processes that are saving a model (SAVE) or a recovery point (POINT)."""
    if kind == SAVE:
        return _matches([folder, *entries(folder, "phase_*")], _SAVE)
    trainings = entries(folder / "recovery")
    return _matches([slot for training in trainings for slot in entries(training)], _POINT)


@dataclass
class Durations:
    """How long stages last in a run that is not disturbed."""

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    steps: int = 0  # of a retraining

    def typical(self, stage: str) -> float:
        return statistics.median(self.seconds.get(stage, [0.0]))

    @property
    def steps_per_second(self) -> float:
        return self.steps / self.typical("retrain")


class Observer:
    """Looks at one group of a run again and again, and notes how long everything lasts."""

    def __init__(self, folder: Path, since: float) -> None:
        self.durations = Durations()
        self._folder, self._since = folder, since
        self._entered: dict[str, float] = {}

    def look(self) -> None:
        now = time.monotonic()
        present = {stage_of(self._folder, 0, self._since)}
        present |= {kind for kind in WRITING if writers(self._folder, kind)}
        for stage in self._entered.keys() - present:
            self.durations.seconds[stage].append(now - self._entered.pop(stage))
        for stage in present - self._entered.keys():
            self._entered[stage] = now
        if "retrain" in present and (found := progress_of(self._folder, 0)):
            self.durations.steps = max(self.durations.steps, found.num_epochs * found.num_steps)


def _matches(folders: list[Path], pattern: re.Pattern[str]) -> set[int]:
    """The process numbers in the names of temporary files."""
    found = set()
    for folder in folders:
        for entry in entries(folder):
            if match := pattern.fullmatch(entry.name):
                found.add(int(match[1]))
    return found
