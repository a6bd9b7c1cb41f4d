"""How a run is, out of its folder alone; nothing in the folder changes.

Files are read while ranks may be at work, and without trust: what is damaged is named in the
status, never raised. Ages compare the times of files with the file system's own clock.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from sms_dist.base import plain
from sms_dist.base.files import entries
from sms_dist.base.process import FAILED, STOPPED
from sms_dist.cli.amounts import ago, span
from sms_dist.cli.slurm import jobs
from sms_dist.config import EngineConfig
from sms_dist.config import file as config_file
from sms_dist.mesh.division import deal
from sms_dist.reports import scores
from sms_dist.run import journal, lock, schema
from sms_dist.run.journal import Event, SoupEvent, event_type
from sms_dist.run.paths import MANIFEST, METRICS, RunPaths, find_runs
from sms_dist.run.progress import Progress, read_all
from sms_dist.run.schema import R
from sms_dist.stacks import cut, stack_size

T = TypeVar("T")
State = Literal["running", "waiting", "stopped", "failed", "lost", "done", "not started"]
# The exit status of `sms-dist status`; it is 0 in all other states.
EXIT: dict[State, int] = {"stopped": STOPPED, "failed": FAILED, "lost": FAILED}
MODEL = re.compile(r"phase_(\d+)_(candidate_(\d+)|soup)")
JOBS, JOURNAL, LOCK = "logs/jobs.jsonl", "journal.jsonl", ".lock"
ENVIRONMENT = "environment.json"
MAX_BYTES = 1 << 26  # of a file of a run
NUM_EVENTS = 5  # the last ones, which are shown
NUM_TIMED = 8  # the last candidates, whose times are read


def run_folders(folders: Sequence[Path]) -> tuple[list[Path], bool]:
    """Return the run folders that are meant, and whether it is one that was named itself.

    ValueError where a folder is missing or has no run in it.
    """
    runs: list[Path] = []
    for folder in folders:
        inside = folder.iterdir() if folder.is_dir() else []
        submitted = [path for path in inside if _is_run(path)]  # may hold no more than a script
        try:
            runs += [folder] if _is_run(folder) else sorted({*find_runs(folder), *submitted})
        except ValueError:
            if not submitted:
                raise
            runs += sorted(submitted)
    return list(dict.fromkeys(runs)), len(folders) == 1 and _is_run(folders[0])


class RunStatus:
    """A run as it is at one moment: what it says of itself is `as_json`."""

    def __init__(self, folder: Path) -> None:
        self.damaged: list[str] = []
        self.paths = paths = RunPaths(folder)
        self.config = self._read(paths.config, config_file.load, None)
        self.plan = self._read(paths.plan, _record(schema.PlanFile), None)
        self.packing = self._read(paths.packing, _record(schema.PackingFile), None)
        environment = self._read(paths.environment, _record(schema.EnvironmentFile), None)
        self.starts = environment.starts if environment else ()
        self.journal = list(self._events())
        no_lines: list[schema.JobLine] = []
        self.job_lines = self._read(folder / JOBS, lambda _: jobs.recorded(paths), no_lines)
        self.owner = lock.read(paths.lock)
        if self.owner is None and paths.lock.exists():
            self.damaged.append("lock.json: it does not say who works in the folder")
        self.groups = read_all(paths.progress)
        files = [f"progress/{path.name}" for path in entries(paths.progress, "group_*.json")]
        readable = [f"progress/group_{group}.json" for group in self.groups]
        self.damaged += [f"{name}: cannot be read" for name in files if name not in readable]
        self.stored: dict[tuple[int, int], float] = {}  # (phase, candidate) -> when it was done
        self.soups: set[int] = set()
        for path in (path for phase in entries(folder, "phase_*") for path in entries(phase)):
            match = MODEL.fullmatch(f"{path.parent.name}_{path.name}")
            written = _written(path / MANIFEST)
            if match and written is not None and match[3]:
                self.stored[int(match[1]), int(match[3])] = written
            elif match and written is not None:
                self.soups.add(int(match[1]))
        times = {
            name: _written(folder / name) for name in (JOURNAL, ENVIRONMENT, LOCK, *files, JOBS)
        }
        self.times = {name: written for name, written in times.items() if written is not None}
        self.now, self.is_exact = clock(folder)  # last: nothing that was read is younger
        self.state, self.reason = self._state()
        self.is_running = self.state == "running"
        self.phase = self._phase()
        self.seconds_left = self._left()

    def as_json(self) -> dict[str, Any]:
        """Return the status as plain values; ages and durations are in seconds, None: not known."""
        config, plan, starts = self.config, self.plan, self.starts
        numbers = [start.world.get("SLURM_JOB_ID") for start in starts]
        numbers += [line.job for line in self.job_lines]
        shown = [e for e in self.journal if e.event != "candidate"]  # the soup's event says enough
        phase, run = self.seconds_left
        return {
            "run": str(self.paths.root),
            "name": config.name if config else self.paths.root.resolve().name,
            "method": config.method.name if config else None,
            "data": config.data.name if config else None,
            "model": config.model.name if config else None,
            "state": self.state,
            "reason": self.reason,
            "last_sign": self._last_sign(),
            "phase": self.phase,
            "num_groups": plan.num_groups if plan else None,
            "groups": {str(group): asdict(progress) for group, progress in self.groups.items()},
            "seconds_left": None if self.state == "done" else {"phase": phase, "run": run},
            "starts": len(starts),
            "restarts": sum(start.number("TORCHELASTIC_RESTART_COUNT") > 0 for start in starts),
            "jobs": list(dict.fromkeys(number for number in numbers if number)),
            "requeues": sum(line.is_requeued for line in self.job_lines),
            "events": [self._shown(event) for event in shown[-NUM_EVENTS:]],
            "warnings": [_words(event) for event in shown if event.event in ("warning", "changes")],
            "faults": [self._shown(e) for e in shown if e.event in ("fault", "stopped")],
            "damaged": self.damaged,
        }

    def _state(self) -> tuple[State, str]:
        """Return the state and how it is known.

        By the last line about jobs, the last events, and the lock, which ranks at work keep fresh.
        """
        times, names = self.times, [event.event for event in self.journal]
        # The last start may not have come to its first event yet.
        is_starting = times.get(ENVIRONMENT, 0.0) > times.get(JOURNAL, 0.0)
        start = len(names) - names[::-1].index("start") if "start" in names else len(names)
        ends = [e for e in self.journal[start:] if e.event in ("done", "stopped", "fault")]
        end = ends[-1] if ends and not is_starting else None
        last = self.job_lines[-1] if self.job_lines else None
        if last and last.is_queued and times.get(JOBS) == max(times.values(), default=0):
            verb = "back in the queue since" if last.is_requeued else "in the queue since"
            return "waiting", f"job {last.job} {verb} {self._ago(JOBS)}"
        if not times.keys() & {ENVIRONMENT, JOURNAL, LOCK}:
            return "not started", "no start has come as far as this folder"
        if end and end.event == "done":
            return "done", f"by its journal, {self._ago(JOURNAL)}"
        if end and end.event == "fault":
            return "failed", _words(end)
        owner = self.owner
        is_gone = owner.is_gone() if owner else None
        if end and (is_gone or LOCK not in times):
            return "stopped", f"{_words(end)}; the same command goes on"
        if LOCK not in times:
            return "failed", "the last start ended without a word; see its log"
        job = f", job {owner.job}" if owner and owner.job else ""
        who = f"process {owner.pid} on {owner.host}{job}" if owner else "somebody unknown"
        if is_gone:
            return "failed", f"{who} has died"
        age, engine = self._age(times[LOCK]), self.config.engine if self.config else EngineConfig()
        if age > engine.silence_seconds:
            is_there = "is there, but silent" if is_gone is False else "is silent"
            return "lost", f"{who} {is_there}, {span(age)}"
        verb = "stopping" if end else "starting" if is_starting else "at work"
        wish = ", asked to stop" if self.paths.stop.exists() else ""
        return "running", f"{verb}{wish}: {who}, sign of life {self._ago(LOCK)}"

    def _phase(self) -> dict[str, Any] | None:
        """Return the first phase without a soup, 0 for pretraining; None if none is left."""
        if self.plan is None:
            return None
        phases = {item.index: item for item in self.plan.phases}
        is_dense = _written(self.paths.dense / MANIFEST) is not None
        k = next((k for k in phases if k not in self.soups), None) if is_dense else 0
        if k is None:
            return None
        indices = list(phases[k].steps_of) if k else []
        done = [i for i in indices if (k, i) in self.stored]
        at_work = [i for i in indices if i not in done and self._group_of(k, i)]
        return {
            "index": k,
            "num_phases": len(phases),
            "sparsity": phases[k].phase.sparsity if k else None,
            "done": done,
            "at_work": at_work,
            "to_do": [i for i in indices if i not in (*done, *at_work)],
        }

    def _left(self) -> tuple[float | None, float | None]:
        """Return the seconds until phase and run are done: steps, by what one has taken so far."""
        rate, k = self._seconds_per_step(), self.phase["index"] if self.phase else 0
        if self.plan is None or rate is None or not k:
            return None, None
        phases = {item.index: item.steps_of for item in self.plan.phases}
        rest = []
        for i in (i for i in phases[k] if (k, i) not in self.stored):
            group, steps = self._group_of(k, i), phases[k][i]
            if group is not None and group.stage == "retrain" and group.epoch:
                steps = (group.num_epochs - group.epoch + 1) * group.num_steps - group.step
            elif group is not None and group.stage not in ("retrain", "waiting"):
                steps = 0  # it has trained, and is being measured
            rest.append(max(0, steps))
        this = rate * self._busiest(rest, len(phases[k]))
        later = (list(steps.values()) for index, steps in phases.items() if index > k)
        return this, this + rate * sum(self._busiest(steps, len(steps)) for steps in later)

    def _busiest(self, steps: Sequence[int], num_candidates: int) -> int:
        """Return the steps of the group with most to do; candidates of a stack step together."""
        assert self.plan is not None
        size = 1
        if self.config and self.packing and self.packing.packing == "vmap":
            size = stack_size(self.config.engine.pack_size, num_candidates, self.packing.num_groups)
        longest = [max(some) for some in cut(steps, max(1, size))]
        groups = min(self.plan.num_groups, len(longest) or 1)
        return max(sum(deal(longest, groups, group)) for group in range(groups))

    def _seconds_per_step(self) -> float | None:
        """Return the median of candidates that are done, evaluation included; None before."""
        rates = []
        for place in sorted(self.stored, key=lambda place: self.stored[place])[-NUM_TIMED:]:
            path = self.paths.candidate(*place) / METRICS
            metrics = self._read(path, _record(schema.CandidateMetrics), None)
            if self.plan and metrics and metrics.seconds and metrics.epochs:  # else it diverged
                steps = len(metrics.epochs) * self.plan.sizes.steps_per_epoch
                rates.append(metrics.seconds / steps)
        return median(rates) if rates else None

    def _group_of(self, k: int, index: int) -> Progress | None:
        """Return the group that is at work on a candidate."""
        groups = [g for g in self.groups.values() if g.phase == k and self.is_running]
        return next((g for g in groups if index in (g.together or (g.candidate,))), None)

    def _last_sign(self) -> dict[str, Any] | None:
        if not self.times:
            return None
        name = max(self.times, key=lambda name: self.times[name])
        age = round(self._age(self.times[name]), 1)
        return {"file": name, "age": age, "is_exact": self.is_exact}

    def _shown(self, event: Event) -> dict[str, Any]:
        """Return an event as it is shown.

        The journal's file and its last event are of the same moment: by so much the clock of the
        host that wrote it differs from the file system's.
        """
        time, last, age = event.seconds, self.journal[-1].seconds, None
        if time is not None and last is not None and JOURNAL in self.times:
            age = round(self._age(self.times[JOURNAL]) + last - time, 1)
        return {"event": event.event, "age": age, "text": _words(event)}

    def _age(self, written: float) -> float:
        return max(0.0, self.now - written)

    def _ago(self, name: str) -> str:
        return ago(self._age(self.times.get(name, 0.0)), self.is_exact)

    def _read(self, path: Path, read: Callable[[Path], T], default: T) -> T:
        """Return what a file holds; the default where there is no such file or it is damaged."""
        try:
            return read(path) if plain.is_file(path) else default
        except (OSError, ValueError) as error:
            if plain.is_file(path):  # else it went away meanwhile
                reason = str(error).removeprefix(f"--config {path} ")
                self.damaged.append(f"{path.relative_to(self.paths.root)}: {reason}")
            return default

    def _events(self) -> Iterator[Event]:
        """Yield the events of the journal; a line that is still being written is left out."""
        content = self._read(self.paths.journal, _bytes, b"")
        for number, value in enumerate(journal.lines(content), 1):
            try:
                event = event_type(value or {}).model_validate(value or {})
            except ValidationError:
                self.damaged.append(f"{JOURNAL}: line {number} is damaged")
                continue
            if event.event:
                yield event


def clock(folder: Path) -> tuple[float, bool]:
    """Return the time on the file system, and True: that of a file made there, without a name.

    Where no file may be made, return this host's time and False.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".status_") as file:
            return os.fstat(file.fileno()).st_mtime, True
    except OSError:
        return time.time(), False


def _bytes(path: Path) -> bytes:
    return plain.read(path, MAX_BYTES, "a file of a run", "it")


def _record(kind: type[R]) -> Callable[[Path], R | None]:
    """Return a function that reads a record of a kind from a file."""
    return lambda path: schema.parsed(kind, plain.parse_json(_bytes(path), "it", MAX_BYTES), "it")


def _written(path: Path) -> float | None:
    """Return when a file was last written; it is opened, so that NFS asks its server."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _is_run(folder: Path) -> bool:
    """Return whether anything has been made in a folder, if only a job's script."""
    paths = RunPaths(folder)
    made = (paths.config, paths.journal, paths.environment, paths.logs / "job.sbatch")
    return any(path.is_file() for path in made)


def _words(event: Event) -> str:
    """Return the words of an event that has some; else its fields."""
    if isinstance(event, SoupEvent):
        name, score = event.metrics.score, event.metrics.soup_score
        label = scores.score(name).label
        return f"phase {event.metrics.phase}: test {label} {scores.text(score, name)}"
    values = event.as_json()
    fields = {k: v for k, v in values.items() if isinstance(v, str | int | float)}
    words = [str(fields[name]) for name in ("message", "reason", "text") if name in fields]
    words = words or [f"{k}={v}" for k, v in fields.items() if k not in ("time", "event")]
    return " ".join(" ".join(words).split())
