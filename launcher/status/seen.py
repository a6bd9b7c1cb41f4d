"""A run folder as it is at one moment, while ranks may be at work in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from launcher.status.files import Clock
from launcher.status.told import Environment, Job, Metrics, Packs, Plan
from sms_dist.config import Config
from sms_dist.packs import pack_size
from sms_dist.paths import RunPaths
from sms_dist.records.lock import Owner
from sms_dist.records.progress import Progress

CANDIDATE = re.compile(r"phase_(\d+)_candidate_(\d+)")
JOBS, JOURNAL, LOCK = "logs/jobs.jsonl", "journal.jsonl", ".lock"
ENVIRONMENT = "environment.json"


class Place(NamedTuple):
    """Of a candidate."""

    phase: int
    candidate: int


@dataclass(frozen=True)
class RecoveryPoint:
    training: str  # dense or phase_1_candidate_0
    steps: int  # those done
    time: float  # when it was written

    @property
    def place(self) -> Place | None:
        """None where it is not a candidate's."""
        match = CANDIDATE.fullmatch(self.training)
        return Place(int(match[1]), int(match[2])) if match else None


@dataclass(frozen=True)
class Seen:
    """Times are those of files, in seconds since 1970 by the file system's clock."""

    paths: RunPaths
    clock: Clock
    config: Config | None
    plan: Plan | None
    packs: Packs | None
    events: list[dict[str, Any]]
    groups: dict[int, Progress]
    lock: Owner | None
    environment: Environment | None
    jobs: list[Job]
    points: list[RecoveryPoint]
    stored: dict[Place, float]  # candidates that are done
    soups: dict[int, float]
    measured: dict[Place, Metrics]
    is_dense_stored: bool
    is_stop_wanted: bool
    times: dict[str, float]  # of the files that change while a run works, by their names
    disk_bytes: int
    damaged: list[str]

    @property
    def name(self) -> str:
        return self.config.name if self.config else self.paths.root.resolve().name

    @cached_property
    def session(self) -> list[dict[str, Any]]:
        """The events since the last start."""
        starts = [place for place, event in enumerate(self.events) if kind(event) == "start"]
        return self.events[starts[-1] :] if starts else []

    def pack_size(self, num_candidates: int) -> int:
        """Candidates that a group trains at once, of a phase that has so many."""
        if self.config is None or self.packs is None or self.packs.packing != "vmap":
            return 1
        return pack_size(self.config.engine.pack_size, num_candidates, self.packs.num_groups)

    @property
    def is_starting(self) -> bool:
        """Has the last start not come to its first event yet?"""
        return self.times.get(ENVIRONMENT, 0.0) > self.times.get(JOURNAL, 0.0)

    @property
    def has_started(self) -> bool:
        return bool(self.times.keys() & {ENVIRONMENT, JOURNAL, LOCK})

    @property
    def sign_of_life(self) -> tuple[str, float] | None:
        """The file that was written last, and its age in seconds."""
        if not self.times:
            return None
        name = max(self.times, key=lambda each: self.times[each])
        return name, self.age(self.times[name])

    def age(self, time: float) -> float:
        return max(0.0, self.clock.now - time)


def kind(event: dict[str, Any]) -> str:
    """The name of an event; "" if it has none."""
    name = event.get("event")
    return name if isinstance(name, str) else ""
