"""Whether a run works, how that is known, and how long it still takes."""

from __future__ import annotations

from collections.abc import Collection
from statistics import mean, median
from typing import Literal, NamedTuple

from sms_dist.base.process import FAILED, STOPPED
from sms_dist.cli.amounts import ago, span
from sms_dist.cli.status.folder import ENVIRONMENT, JOBS, JOURNAL, LOCK, Place, RunState
from sms_dist.config import EngineConfig
from sms_dist.mesh.division import deal
from sms_dist.run.journal import Event
from sms_dist.run.progress import Progress
from sms_dist.run.schema import PhasePlanFile
from sms_dist.stacks import cut

State = Literal["running", "waiting", "stopped", "failed", "lost", "done", "not started"]
# What `sms-dist status` ends with; 0 in all other states.
EXIT: dict[State, int] = {"stopped": STOPPED, "failed": FAILED, "lost": FAILED}


class Verdict(NamedTuple):
    state: State
    reason: str


class Left(NamedTuple):
    """Seconds of work; None where nothing is known of it."""

    phase: float | None
    run: float | None


def judge(run: RunState) -> Verdict:
    """By the last line about jobs, the last events, and the lock, which ranks at work keep fresh.

    Times of files are compared with each other only, or with the file system's own clock.
    """
    ends = [event for event in run.session if event.event in ("done", "stopped", "fault")]
    end = ends[-1] if ends and not run.is_starting else None
    times = run.times
    others = [time for name, time in times.items() if name != JOBS]
    if run.jobs and run.jobs[-1].is_queued and times.get(JOBS, 0.0) >= max(others, default=0.0):
        job = run.jobs[-1]
        verb = "back in the queue since" if job.is_requeued else "in the queue since"
        return Verdict("waiting", f"job {job.job} {verb} {_ago(run, JOBS)}")
    if not times.keys() & {ENVIRONMENT, JOURNAL, LOCK}:
        return Verdict("not started", "no start has come as far as this folder")
    if end and end.event == "done":
        return Verdict("done", f"by its journal, {_ago(run, JOURNAL)}")
    if end and end.event == "fault":
        return Verdict("failed", said(end))
    if LOCK in times:
        return _by_lock(run, end)
    if end:
        return _stopped(end)
    return Verdict("failed", "the last start ended without a word; see its log")


def said(event: Event) -> str:
    """The words of an event that has some; else its fields."""
    values = event.as_json()
    for name in ("message", "reason", "text"):
        if isinstance(values.get(name), str):
            return " ".join(values[name].split())
    known = {k: v for k, v in values.items() if k not in ("time", "event")}
    return " ".join(f"{k}={v}" for k, v in known.items() if isinstance(v, str | int | float))


def left(run: RunState, is_running: bool) -> Left:
    """Of the current phase and of the run. When nothing runs: of a start with as many groups."""
    k, plan = run.current_phase, run.plan
    if plan is None or k is None:
        return Left(None, None)
    rate, soup = _seconds_per_step(run), _seconds_per_soup(run)
    this: float | None = None
    if k == 0 and is_running:
        pretraining = [g.eta_seconds for g in run.groups.values() if g.stage == "pretrain"]
        this = pretraining[0] if pretraining else None
    elif k > 0 and rate is not None:
        item = next(item for item in plan.phases if item.index == k)
        this = _busiest(run, item, rate, is_running) + soup
    later = [item for item in plan.phases if item.index > k]
    if this is None or (rate is None and later):
        return Left(this, None)
    return Left(this, this + sum(_whole(run, item, rate or 0.0) + soup for item in later))


def _stopped(end: Event) -> Verdict:
    return Verdict("stopped", f"{said(end)}; the same command goes on")


def _by_lock(run: RunState, end: Event | None) -> Verdict:
    owner, age, who = run.lock, run.age(run.times[LOCK]), "somebody unknown"
    if owner is not None:
        job = f", job {owner.job}" if owner.job else ""
        who = f"process {owner.pid} on {owner.host}{job}"
    is_gone = owner.is_gone() if owner else None
    if is_gone:
        return _stopped(end) if end else Verdict("failed", f"{who} has died")
    engine = run.config.engine if run.config else EngineConfig()
    if age > engine.silence_seconds:
        there = "is there, but silent" if is_gone is False else "is silent"
        return Verdict("lost", f"{who} {there}, {span(age)}")
    words = "stopping" if end else "starting" if run.is_starting else "at work"
    wish = ", asked to stop" if run.paths.stop.exists() else ""
    return Verdict("running", f"{words}{wish}: {who}, sign of life {_ago(run, LOCK)}")


def _ago(run: RunState, name: str) -> str:
    return ago(run.age(run.times.get(name, 0.0)), run.clock.is_exact)


def _seconds_per_step(run: RunState) -> float | None:
    """Of candidates that are done, evaluation included; else of those at work. In a pack a step is
    one of all that train in it."""
    steps = run.plan.sizes.steps_per_epoch if run.plan else 1
    found = [
        metrics.seconds / (len(metrics.epochs) * steps)
        for metrics in run.measured.values()
        if metrics.seconds and metrics.epochs  # else it diverged in an earlier phase
    ]
    found = found or [
        group.eta_seconds / _steps_left(group)
        for group in run.groups.values()
        if group.stage == "retrain" and group.eta_seconds is not None and _steps_left(group)
    ]
    return median(found) if found else None


def _steps_left(group: Progress) -> int:
    return max(0, (group.num_epochs - group.epoch + 1) * group.num_steps - group.step)


def _seconds_per_soup(run: RunState) -> float:
    """Between the last candidate and the soup of the phases that are done; 0 if none is."""
    found = []
    for phase, time in run.soups.items():
        candidates = [stored for place, stored in run.stored.items() if place.phase == phase]
        if candidates:
            found.append(max(0.0, time - max(candidates)))
    return mean(found) if found else 0.0


def _whole(run: RunState, item: PhasePlanFile, rate: float) -> float:
    """Seconds of a phase on which no work was done, until the busiest group has trained."""
    steps = item.steps_of
    return rate * _longest(run, [max(steps[i] for i in turn) for turn in _turns(run, item, steps)])


def _busiest(run: RunState, item: PhasePlanFile, rate: float, is_running: bool) -> float:
    """Seconds until the group with most to do has trained all its candidates of the phase."""
    begun = run.times.get(ENVIRONMENT, 0.0) if is_running else run.clock.now + 1
    steps = item.steps_of
    # As they were dealt when this start came to the phase: without those that were done by then.
    todo = [i for i in steps if run.stored.get(Place(item.index, i), begun + 1) > begun]
    seconds = {
        i: _candidate_left(run, Place(item.index, i), steps[i], rate, is_running) for i in todo
    }
    return _longest(run, [max(seconds[i] for i in turn) for turn in _turns(run, item, todo)])


def _turns(run: RunState, item: PhasePlanFile, todo: Collection[int]) -> list[list[int]]:
    """What a group does at a time: a candidate, or those of a pack that are not done yet."""
    indices = list(item.steps_of)
    turns = [[i for i in pack if i in todo] for pack in cut(indices, run.pack_size(len(indices)))]
    return [turn for turn in turns if turn]


def _longest(run: RunState, turns: list[float]) -> float:
    """Of the busiest group."""
    num_groups = run.plan.num_groups if run.plan else 1
    return max(
        sum(deal(turns, num_groups, group)) for group in range(min(num_groups, len(turns) or 1))
    )


def _candidate_left(
    run: RunState, place: Place, steps: int, rate: float, is_running: bool
) -> float:
    if place in run.stored:
        return 0.0
    for group in run.groups.values() if is_running else ():
        is_here = place.candidate in (group.together or (group.candidate,))
        if group.phase == place.phase and is_here and group.stage != "waiting":
            if group.stage != "retrain":  # it is being measured
                return 0.0
            return rate * (_steps_left(group) if group.epoch else steps)
    done = max((point.steps for point in run.points if point.place == place), default=0)
    return rate * max(0, steps - done)
