"""Reads all of a run folder that its status needs; nothing in it changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from launcher.status.files import Reader, clock, disk_bytes
from launcher.status.seen import (
    CANDIDATE,
    ENVIRONMENT,
    JOBS,
    JOURNAL,
    LOCK,
    Place,
    RecoveryPoint,
    Seen,
    kind,
)
from launcher.status.told import Environment, Job, Metrics, Packs, Plan, Point
from sms_dist import config_file
from sms_dist.config import Config
from sms_dist.paths import MANIFEST, METRICS, RunPaths
from sms_dist.records import lock
from sms_dist.records.lock import Owner
from sms_dist.records.progress import Progress, read_all

PROGRESS = TypeAdapter(Progress)
FIRST_RANK = "rank_0.json"
NUM_MEASURED = 8  # candidates whose times are read, the last ones


def look(folder: Path) -> Seen:
    """Never an error: what is damaged is told in `damaged`."""
    paths, reader = RunPaths(folder), Reader(folder)
    stored, soups = _stored(paths, reader)
    points = _points(paths, reader)
    last = sorted(stored, key=lambda place: stored[place])[-NUM_MEASURED:]
    measured = {place: _measured(paths, reader, place) for place in last}
    jobs = [Job.model_validate(line) for line in reader.json_lines(folder / JOBS)]
    return Seen(
        paths=paths,
        config=_config(paths, reader),
        plan=reader.json(paths.plan, Plan),
        packs=reader.json(paths.packing, Packs) if paths.packing.is_file() else None,
        events=[event for event in reader.json_lines(paths.journal) if kind(event)],
        groups=_groups(paths, reader),
        lock=_owner(paths, reader),
        environment=reader.json(paths.environment, Environment),
        jobs=jobs,
        points=points,
        stored=stored,
        soups=soups,
        measured={place: metrics for place, metrics in measured.items() if metrics is not None},
        is_dense_stored=reader.time(paths.dense / MANIFEST) is not None,
        is_stop_wanted=paths.stop.exists(),
        times=_times(paths, reader, [*stored.values(), *soups.values()], points),
        disk_bytes=disk_bytes(folder),
        damaged=reader.damaged,
        clock=clock(folder),  # last: nothing that was read is younger
    )


def _config(paths: RunPaths, reader: Reader) -> Config | None:
    if not paths.config.is_file():
        return None
    try:
        return config_file.load(paths.config)
    except OSError as error:
        reader.tell(paths.config, error.strerror or "cannot be read")
    except ValueError as error:
        reader.tell(paths.config, str(error).removeprefix(f"--config {paths.config} "))
    return None


def _owner(paths: RunPaths, reader: Reader) -> Owner | None:
    owner = lock.read(paths.lock)
    if owner is None and paths.lock.exists():
        reader.tell(paths.lock, "does not say who works in the folder")
    return owner


def _groups(paths: RunPaths, reader: Reader) -> dict[int, Progress]:
    found = {}
    try:
        known = read_all(paths.progress)
    except (OSError, RecursionError) as error:
        reader.tell(paths.progress, str(error))
        return {}
    for path in reader.entries(paths.progress, "group_*.json"):
        name = path.stem.removeprefix("group_")
        if not name.isdecimal():
            continue
        try:
            found[int(name)] = PROGRESS.validate_python(vars(known[int(name)]))
        except (KeyError, ValidationError):  # not even read; or with values of other kinds
            reader.tell(path, "cannot be read")
    return dict(sorted(found.items()))


def _stored(paths: RunPaths, reader: Reader) -> tuple[dict[Place, float], dict[int, float]]:
    """The candidates and soups that are complete, with the times at which they became so."""
    candidates, soups = {}, {}
    phases = reader.entries(paths.root, "phase_*")
    for folder in (folder for phase in phases for folder in reader.entries(phase)):
        phase, name = folder.parent.name, folder.name
        match = CANDIDATE.fullmatch(f"{phase}_{name}")
        time = reader.time(folder / MANIFEST)
        if time is None:
            continue
        if match:
            candidates[Place(int(match[1]), int(match[2]))] = time
        elif name == "soup" and phase.removeprefix("phase_").isdecimal():
            soups[int(phase.removeprefix("phase_"))] = time
    return candidates, soups


def _measured(paths: RunPaths, reader: Reader, place: Place) -> Metrics | None:
    return reader.json(paths.candidate(*place) / METRICS, Metrics)


def _points(paths: RunPaths, reader: Reader) -> list[RecoveryPoint]:
    """The newest of each training."""
    found = []
    for folder in reader.entries(paths.recoveries):
        slots = reader.entries(folder)
        both = [_point(slot / FIRST_RANK, folder.name, reader) for slot in slots]
        there = [point for point in both if point is not None]
        if there:
            found.append(max(there, key=lambda point: point.steps))
    return found


def _point(path: Path, training: str, reader: Reader) -> RecoveryPoint | None:
    point, time = reader.json(path, Point), reader.time(path)
    if point is None or time is None:
        return None
    return RecoveryPoint(training, point.steps, time)


def _times(
    paths: RunPaths, reader: Reader, stored: Iterable[float], points: Iterable[RecoveryPoint]
) -> dict[str, float]:
    names = [JOURNAL, ENVIRONMENT, LOCK, JOBS]
    names += [f"{path.parent.name}/{path.name}" for path in reader.entries(paths.progress)]
    found = {name: reader.time(paths.root / name) for name in names}
    found["a finished model"] = max(stored, default=None)
    found["a recovery point"] = max((point.time for point in points), default=None)
    return {name: time for name, time in found.items() if time is not None}
