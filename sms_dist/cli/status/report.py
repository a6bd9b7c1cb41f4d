"""The status of a run as plain data: what --json prints, and what the screen shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sms_dist.cli.status.folder import JOURNAL, Place, RecoveryPoint, RunState, disk_bytes
from sms_dist.cli.status.judge import Left, State, judge, left, said
from sms_dist.reports import scores
from sms_dist.run.journal import DenseEvent, DoneEvent, Event, SoupEvent, StartEvent
from sms_dist.run.progress import Progress
from sms_dist.run.schema import Measured, Start

NUM_EVENTS = 5


@dataclass(frozen=True)
class Sign:
    """The file that was written last."""

    file: str
    age: float
    is_exact: bool


@dataclass(frozen=True)
class PhaseStatus:
    """The phase that the run is in, 0 while it pretrains; candidates by what is done of them."""

    index: int
    num_phases: int
    sparsity: float | None
    done: list[int]
    at_work: list[int]
    to_do: list[int]


@dataclass(frozen=True)
class PointStatus:
    of: str  # dense or phase_1_candidate_0
    steps: int
    num_steps: int | None
    age: float


@dataclass(frozen=True)
class EventStatus:
    event: str
    age: float | None
    text: str


@dataclass(frozen=True)
class Status:
    """Ages and durations are in seconds; None where nothing is known."""

    run: str
    name: str
    method: str | None
    data: str | None
    model: str | None
    state: State
    reason: str
    last_sign: Sign | None
    phase: PhaseStatus | None
    num_groups: int | None
    groups: dict[int, Progress]
    recovery: list[PointStatus]
    seconds_left: Left | None
    starts: int
    restarts: int
    jobs: list[str]
    requeues: int
    disk_bytes: int
    events: list[EventStatus]
    warnings: list[str]
    faults: list[EventStatus]
    damaged: list[str]

    def as_json(self) -> dict[str, Any]:
        left = self.seconds_left
        groups = {str(group): asdict(progress) for group, progress in self.groups.items()}
        return asdict(self) | {"groups": groups, "seconds_left": left and left._asdict()}


def status(run: RunState) -> Status:
    verdict, config = judge(run), run.config
    is_running = verdict.state == "running"
    starts = run.environment.starts if run.environment else ()
    job_of = {id(start): start.world.get("SLURM_JOB_ID") or "" for start in starts}
    jobs = [*job_of.values(), *(line.job for line in run.jobs)]
    shown = [event for event in run.events if event.event != "candidate"]  # the soup's says enough
    return Status(
        run=str(run.paths.root),
        name=run.name,
        method=config.method.name if config else None,
        data=config.data.name if config else None,
        model=config.model.name if config else None,
        state=verdict.state,
        reason=verdict.reason,
        last_sign=_sign(run),
        phase=_phase(run, is_running),
        num_groups=run.plan.num_groups if run.plan else None,
        groups=run.groups,
        recovery=[_point(run, point) for point in run.points],
        seconds_left=left(run, is_running) if verdict.state != "done" else None,
        starts=len(starts),
        restarts=sum(start.number("TORCHELASTIC_RESTART_COUNT") > 0 for start in starts),
        jobs=list(dict.fromkeys(job for job in jobs if job)),
        requeues=max(sum(line.is_requeued for line in run.jobs), _requeues(starts)),
        disk_bytes=disk_bytes(run.paths.root),
        events=[_event(run, event) for event in shown[-NUM_EVENTS:]],
        warnings=[words(event) for event in run.events if event.event == "warning"],
        faults=[_event(run, e) for e in run.events if e.event in ("fault", "stopped")],
        damaged=run.damaged,
    )


def words(event: Event) -> str:
    """An event in one line, without its name."""
    match event:
        case StartEvent():
            goes_on = ", goes on" if event.resumed else ""
            text = f"{event.ranks} ranks in {event.groups} groups{goes_on}"
        case DenseEvent():
            text = _score(event.metrics) or said(event)
        case DoneEvent():
            text = _score(event.metrics) or said(event)
        case SoupEvent(metrics=phase):
            text = f"phase {phase.phase}: {_score(phase.soup, phase.score) or said(event)}"
        case _:
            text = said(event)
    return " ".join(text.split())


def _score(model: Measured, score: str | None = None) -> str | None:
    """By the metric that counts, the first one where it is not known which one that is."""
    for name in (score, *model.tested):
        value = model.test(name) if name else None
        if name and value is not None:
            return f"test {scores.score(name).label} {scores.text(value, name)}"
    return None


def _requeues(starts: Sequence[Start]) -> int:
    """As environments tell of them, by job."""
    counts: Counter[str] = Counter()
    for start in starts:
        job = start.world.get("SLURM_JOB_ID") or ""
        counts[job] = max(counts[job], start.number("SLURM_RESTART_COUNT"))
    return sum(counts.values())


def _sign(run: RunState) -> Sign | None:
    if not run.times:
        return None
    name = max(run.times, key=lambda each: run.times[each])
    return Sign(name, round(run.age(run.times[name]), 1), run.clock.is_exact)


def _phase(run: RunState, is_running: bool) -> PhaseStatus | None:
    """None without a plan or at the end."""
    k = run.current_phase
    if run.plan is None or k is None:
        return None
    items = {item.index: item for item in run.plan.phases}
    indices = list(items[k].steps_of) if k else []
    done = [i for i in indices if Place(k, i) in run.stored]
    groups = [group for group in run.groups.values() if group.phase == k and is_running]
    busy = {i for group in groups for i in (group.together or (group.candidate,))}
    at_work = [i for i in indices if i in busy and i not in done]
    to_do = [i for i in indices if i not in (*done, *at_work)]
    sparsity = items[k].phase.sparsity if k else None
    return PhaseStatus(k, len(items), sparsity, done, at_work, to_do)


def _point(run: RunState, point: RecoveryPoint) -> PointStatus:
    plan, place, num_steps = run.plan, point.place, None
    if plan is not None and place is None:
        num_steps = plan.dense_epochs * plan.sizes.steps_per_epoch
    elif plan is not None and place is not None:
        steps = {item.index: item.steps_of for item in plan.phases}
        num_steps = steps.get(place.phase, {}).get(place.candidate)
    return PointStatus(point.training, point.steps, num_steps, round(run.age(point.time), 1))


def _event(run: RunState, event: Event) -> EventStatus:
    """The journal's own time, and that of its last event, are of the same moment: so much the clock
    of the host that wrote it differs from the file system's."""
    time, last, age = event.seconds, run.events[-1].seconds, None
    if time is not None and last is not None and JOURNAL in run.times:
        age = round(run.age(run.times[JOURNAL]) + last - time, 1)
    return EventStatus(event.event, age, words(event))
