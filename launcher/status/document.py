"""The status of a run as plain data: what --json prints, and what the screen shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from launcher.status.remaining import current_phase, left
from launcher.status.seen import JOURNAL, Place, RecoveryPoint, Seen, kind
from launcher.status.state import Verdict, judge, said
from launcher.status.told import Start
from sms_dist.reports import scores

Document = dict[str, Any]
Event = dict[str, Any]
NUM_EVENTS = 5
PASSED_OVER = ("candidate",)  # the soup's event, at the same moment, says enough
FAULTS = ("fault", "stopped")


def document(seen: Seen) -> Document:
    """Ages and durations are in seconds; null where nothing is known."""
    verdict, config = judge(seen), seen.config
    is_running = verdict.state == "running"
    return {
        "run": str(seen.paths.root),
        "name": seen.name,
        "method": config.method.name if config else None,
        "data": config.data.name if config else None,
        "model": config.model.name if config else None,
        "state": verdict.state,
        "reason": verdict.reason,
        "last_sign": _sign(seen),
        "phase": _phase(seen, verdict),
        "num_groups": seen.plan.num_groups if seen.plan else None,
        "groups": {str(group): asdict(found) for group, found in seen.groups.items()},
        "recovery": _recovery(seen),
        "seconds_left": left(seen, is_running)._asdict() if verdict.state != "done" else None,
        **_starts(seen),
        "disk_bytes": seen.disk_bytes,
        "events": [_told(seen, event) for event in _last(seen.events)],
        "warnings": [words(event) for event in seen.events if kind(event) == "warning"],
        "faults": [_told(seen, event) for event in seen.events if kind(event) in FAULTS],
        "damaged": seen.damaged,
    }


def words(event: Event) -> str:
    """An event in one line, without its name."""
    return " ".join(WORDS.get(kind(event), said)(event).split())


def _sign(seen: Seen) -> Document | None:
    if not seen.times:
        return None
    name = max(seen.times, key=lambda each: seen.times[each])
    age = round(seen.age(seen.times[name]), 1)
    return {"file": name, "age": age, "is_exact": seen.clock.is_exact}


def _phase(seen: Seen, verdict: Verdict) -> Document | None:
    """The phase that the run is in, 0 while it pretrains; null without a plan or at the end."""
    k = current_phase(seen)
    if seen.plan is None or k is None:
        return None
    items = {item.index: item for item in seen.plan.phases}
    indices = list(items[k].steps_of) if k else []
    done = [i for i in indices if Place(k, i) in seen.stored]
    groups = [group for group in seen.groups.values() if group.phase == k]
    busy = {i for group in groups for i in (group.together or (group.candidate,))}
    at_work = [i for i in indices if i in busy and i not in done and verdict.state == "running"]
    return {
        "index": k,
        "num_phases": len(items),
        "sparsity": items[k].phase.sparsity if k else None,
        "done": done,
        "at_work": at_work,
        "to_do": [i for i in indices if i not in (*done, *at_work)],
    }


def _recovery(seen: Seen) -> list[Document]:
    found = []
    for point in seen.points:
        age = round(seen.age(point.time), 1)
        of = {"of": point.training, "steps": point.steps, "num_steps": _num_steps(seen, point)}
        found.append(of | {"age": age})
    return found


def _num_steps(seen: Seen, point: RecoveryPoint) -> int | None:
    """Of the whole training."""
    plan, place = seen.plan, point.place
    if plan is None:
        return None
    if place is None:
        return plan.dense_epochs * plan.sizes.steps_per_epoch
    steps = {item.index: item.steps_of for item in plan.phases}
    return steps.get(place.phase, {}).get(place.candidate)


def _starts(seen: Seen) -> Document:
    starts: Sequence[Start] = seen.environment.starts if seen.environment else ()
    jobs = [start.world.get("SLURM_JOB_ID", "") for start in starts] + [j.job for j in seen.jobs]
    requeues: Counter[str] = Counter()  # of each job; the two sources tell of the same ones
    for start in starts:
        job = start.world.get("SLURM_JOB_ID", "")
        requeues[job] = max(requeues[job], start.number("SLURM_RESTART_COUNT"))
    told = sum(job.is_requeued for job in seen.jobs)
    return {
        "starts": len(starts),
        "restarts": sum(start.number("TORCHELASTIC_RESTART_COUNT") > 0 for start in starts),
        "jobs": list(dict.fromkeys(job for job in jobs if job)),
        "requeues": max(told, sum(requeues.values())),
    }


def _last(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if kind(event) not in PASSED_OVER][-NUM_EVENTS:]


def _told(seen: Seen, event: Event) -> Document:
    return {"event": kind(event), "age": _age(seen, event), "text": words(event)}


def _age(seen: Seen, event: Event) -> float | None:
    """Of an event. The journal's own time, and that of its last event, are of the same moment: so
    much the clock of the host that wrote it differs from the file system's."""
    time, last = _time(event), _time(seen.events[-1])
    if time is None or last is None or JOURNAL not in seen.times:
        return None
    return round(seen.age(seen.times[JOURNAL]) + last - time, 1)


def _time(event: Event) -> float | None:
    try:
        return datetime.fromisoformat(event["time"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _start(event: Event) -> str:
    goes_on = ", goes on" if event.get("resumed") else ""
    return f"{event.get('ranks')} ranks in {event.get('groups')} groups{goes_on}"


def _dense(event: Event) -> str:
    return _score(event, event)


def _soup(event: Event) -> str:
    found = event.get("soup")
    return f"phase {event.get('phase')}: {_score(event, found if isinstance(found, dict) else {})}"


def _score(event: Event, metrics: Event) -> str:
    """By the metric that counts, as far as it is known which one that is."""
    known = [event.get("score"), *(name.removeprefix("test_") for name in metrics)]
    for name in known:
        value = metrics.get(f"test_{name}")
        if isinstance(name, str) and isinstance(value, int | float):
            return f"test {scores.score(name).label} {scores.text(value, name)}"
    return said(event)


WORDS: dict[str, Callable[[Event], str]] = {
    "start": _start,
    "dense": _dense,
    "soup": _soup,
    "warning": said,  # names its phase
    "done": _dense,
}
