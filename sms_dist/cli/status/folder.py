"""A run folder as it is at one moment, while ranks may be at work in it; nothing in it changes.

Files are read without trust: what is damaged is named in `damaged`, never raised.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from sms_dist.base import plain
from sms_dist.base.files import entries
from sms_dist.base.plain import is_file, read
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.run import journal, lock
from sms_dist.run.journal import Event, OtherEvent, event_type
from sms_dist.run.lock import Owner
from sms_dist.run.paths import MANIFEST, METRICS, RunPaths, find_runs
from sms_dist.run.progress import Progress, read_all
from sms_dist.run.schema import (
    CandidateMetrics,
    EnvironmentFile,
    JobLine,
    PackingFile,
    PlanFile,
    R,
    RecoveryFile,
    parsed,
)
from sms_dist.stacks import stack_size

CANDIDATE = re.compile(r"phase_(\d+)_candidate_(\d+)")
SOUP = re.compile(r"phase_(\d+)_soup")
JOBS, JOURNAL, LOCK = "logs/jobs.jsonl", "journal.jsonl", ".lock"
ENVIRONMENT = "environment.json"
MAX_BYTES = 1 << 26  # of a file of a run
BLOCK = 512  # bytes, in which stat counts
NUM_MEASURED = 8  # candidates whose times are read, the last ones


class Place(NamedTuple):
    """Of a candidate."""

    phase: int
    candidate: int


class Clock(NamedTuple):
    """The time by the file system's clock, to which the times of files are compared."""

    now: float  # seconds since 1970
    is_exact: bool  # False: this host's clock, because nothing may be made there


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
class RunState:
    """Times are those of files, in seconds since 1970 by the file system's clock."""

    paths: RunPaths
    clock: Clock
    config: Config | None
    plan: PlanFile | None
    packing: PackingFile | None
    events: list[Event]
    groups: dict[int, Progress]
    lock: Owner | None
    environment: EnvironmentFile | None
    jobs: list[JobLine]
    points: list[RecoveryPoint]
    stored: dict[Place, float]  # candidates that are done
    soups: dict[int, float]
    measured: dict[Place, CandidateMetrics]
    is_dense_stored: bool
    times: dict[str, float]  # of the files that change while a run works, by their names
    damaged: list[str]

    @property
    def name(self) -> str:
        return self.config.name if self.config else self.paths.root.resolve().name

    @cached_property
    def session(self) -> list[Event]:
        """The events since the last start."""
        starts = [place for place, event in enumerate(self.events) if event.event == "start"]
        return self.events[starts[-1] :] if starts else []

    @property
    def is_starting(self) -> bool:
        """Has the last start not come to its first event yet?"""
        return self.times.get(ENVIRONMENT, 0.0) > self.times.get(JOURNAL, 0.0)

    @property
    def current_phase(self) -> int | None:
        """The first phase without a soup, 0 for pretraining; None if none is left or known."""
        if not self.is_dense_stored:
            return 0
        phases = self.plan.phases if self.plan else ()
        return next((item.index for item in phases if item.index not in self.soups), None)

    def pack_size(self, num_candidates: int) -> int:
        """Candidates that a group trains at once, of a phase that has so many."""
        if self.config is None or self.packing is None or self.packing.packing != "vmap":
            return 1
        wanted = self.config.engine.pack_size
        return max(1, stack_size(wanted, num_candidates, self.packing.num_groups))

    def age(self, time: float) -> float:
        return max(0.0, self.clock.now - time)


@dataclass(frozen=True)
class Reader:
    """Reads below a folder; `damaged` collects a line for each file that makes no sense."""

    root: Path
    damaged: list[str] = field(default_factory=list)

    def json(self, path: Path, kind: type[R]) -> R | None:
        """Return the record in a file, None where there is no such file or it is damaged."""
        content = self.bytes(path)
        if content is None:
            return None
        try:
            value = plain.parse_json(content, "it", MAX_BYTES)
        except ValueError:
            self.note(path, "not JSON" if content else "empty")
            return None
        try:
            return parsed(kind, value, path.relative_to(self.root).as_posix())
        except ValueError as error:
            self.damaged.append(str(error))
        return None

    def json_lines(self, path: Path, parse: Callable[[dict[str, Any]], R]) -> list[R]:
        """Return the records, one a line; a line that is still being written is left out."""
        found, bad = [], []
        for number, value in enumerate(journal.lines(self.bytes(path) or b""), 1):
            try:
                found.append(parse(value or {}))
            except ValidationError:
                bad.append(str(number))
        if bad:
            more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
            self.note(path, f"damaged in line {', '.join(bad[:3])}{more}")
        return found

    def time(self, path: Path) -> float | None:
        """When a file was last written, by the file system's clock; None where there is none.

        It is opened, because a network file system then asks its server.
        """
        try:
            with path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return None

    def entries(self, folder: Path, pattern: str = "*") -> list[Path]:
        """What is in a folder, sorted; nothing where it is not there, or cannot be listed."""
        try:
            return entries(folder, pattern)
        except OSError as error:
            self.note(folder, f"cannot be listed: {error.strerror or error}")
            return []

    def note(self, path: Path, problem: str) -> None:
        self.damaged.append(f"{path.relative_to(self.root)}: {problem}")

    def bytes(self, path: Path) -> bytes | None:
        try:
            return read(path, MAX_BYTES, "a file of a run", place="it") if is_file(path) else None
        except ValueError as error:
            if is_file(path):  # else it went away meanwhile
                self.note(path, str(error))
            return None


def run_folders(folders: Sequence[Path]) -> tuple[list[Path], bool]:
    """Return the run folders that are meant, and whether it is one that was named itself.

    ValueError where a folder is not there, or there is no run in it.
    """
    if len(folders) == 1 and _is_run(folders[0]):
        return [folders[0]], True
    found = [run for folder in folders for run in _inside(folder)]
    return list(dict.fromkeys(found)), False


def look(folder: Path) -> RunState:
    """Read all of a run folder that its status needs."""
    paths, reader = RunPaths(folder), Reader(folder)
    stored, soups = _stored(paths, reader)
    points = list(_points(paths, reader))
    last = sorted(stored, key=lambda place: stored[place])[-NUM_MEASURED:]
    files = {place: paths.candidate(*place) / METRICS for place in last}
    measured = {place: reader.json(path, CandidateMetrics) for place, path in files.items()}
    names = [JOURNAL, ENVIRONMENT, LOCK, JOBS]
    names += [f"progress/{path.name}" for path in reader.entries(paths.progress)]
    times = {name: reader.time(folder / name) for name in names}
    times["a finished model"] = max([*stored.values(), *soups.values()], default=None)
    times["a recovery point"] = max((point.time for point in points), default=None)
    owner = lock.read(paths.lock)
    if owner is None and paths.lock.exists():
        reader.note(paths.lock, "does not say who works in the folder")
    return RunState(
        paths=paths,
        config=_config(paths, reader),
        plan=reader.json(paths.plan, PlanFile),
        packing=reader.json(paths.packing, PackingFile),
        events=[e for e in reader.json_lines(paths.journal, _event) if e.event],
        groups=_groups(paths, reader),
        lock=owner,
        environment=reader.json(paths.environment, EnvironmentFile),
        jobs=reader.json_lines(folder / JOBS, JobLine.model_validate),
        points=points,
        stored=stored,
        soups=soups,
        measured={place: found for place, found in measured.items() if found is not None},
        is_dense_stored=reader.time(paths.dense / MANIFEST) is not None,
        times={name: time for name, time in times.items() if time is not None},
        damaged=reader.damaged,
        clock=clock(folder),  # last: nothing that was read is younger
    )


def clock(folder: Path) -> Clock:
    """The time on the file system, as that of a file that is made there and has no name.

    Hosts and file servers rarely have the same time.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".status_") as file:
            return Clock(os.fstat(file.fileno()).st_mtime, is_exact=True)
    except OSError:
        return Clock(time.time(), is_exact=False)


def disk_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk; those that go meanwhile do not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(root, name))
            except OSError:
                continue
            total += found.st_blocks * BLOCK if stat.S_ISREG(found.st_mode) else 0
    return total


def _is_run(folder: Path) -> bool:
    """Has anything been made in it, if only a job's script?"""
    paths = RunPaths(folder)
    made = (paths.config, paths.journal, paths.environment, paths.logs / "job.sbatch")
    return any(path.is_file() for path in made)


def _inside(folder: Path) -> list[Path]:
    if _is_run(folder):
        return [folder]
    there = folder.iterdir() if folder.is_dir() else []
    submitted = [path for path in there if _is_run(path)]  # may have no more than a job's script
    try:
        return sorted({*find_runs(folder), *submitted})
    except ValueError:
        if not submitted:
            raise
        return sorted(submitted)


def _event(values: dict[str, Any]) -> Event:
    """An event that lacks what it should have is shown as it is."""
    try:
        return event_type(values).model_validate(values)
    except ValidationError:
        if not values.get("event"):
            raise
        return OtherEvent.model_validate(values)


def _config(paths: RunPaths, reader: Reader) -> Config | None:
    if not paths.config.is_file():
        return None
    try:
        return config_file.load(paths.config)
    except OSError as error:
        reader.note(paths.config, error.strerror or "cannot be read")
    except ValueError as error:
        reader.note(paths.config, str(error).removeprefix(f"--config {paths.config} "))
    return None


def _groups(paths: RunPaths, reader: Reader) -> dict[int, Progress]:
    try:
        groups = read_all(paths.progress)
    except OSError as error:
        reader.note(paths.progress, str(error))
        return {}
    for path in reader.entries(paths.progress, "group_*.json"):
        name = path.stem.removeprefix("group_")
        if name.isdecimal() and int(name) not in groups:
            reader.note(path, "cannot be read")
    return groups


def _stored(paths: RunPaths, reader: Reader) -> tuple[dict[Place, float], dict[int, float]]:
    """The candidates and soups that are complete, with the times at which they became so."""
    candidates, soups = {}, {}
    phases = reader.entries(paths.root, "phase_*")
    for folder in (folder for phase in phases for folder in reader.entries(phase)):
        name, time = f"{folder.parent.name}_{folder.name}", reader.time(folder / MANIFEST)
        if time is None:
            continue
        if match := CANDIDATE.fullmatch(name):
            candidates[Place(int(match[1]), int(match[2]))] = time
        elif match := SOUP.fullmatch(name):
            soups[int(match[1])] = time
    return candidates, soups


def _points(paths: RunPaths, reader: Reader) -> Iterator[RecoveryPoint]:
    """The newest of each training."""
    for folder in reader.entries(paths.recoveries):
        both = []
        for slot in reader.entries(folder):
            path = slot / "rank_0.json"
            point, time = reader.json(path, RecoveryFile), reader.time(path)
            if point is not None and time is not None:
                both.append(RecoveryPoint(folder.name, point.steps, time))
        if both:
            yield max(both, key=lambda point: point.steps)
