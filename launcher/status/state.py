"""Whether a run works, and how that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from launcher.amounts import ago, span
from launcher.status.seen import JOBS, JOURNAL, LOCK, Seen, kind
from sms_dist.config import EngineConfig
from sms_dist.exit_status import DONE, FAILED, STOPPED
from sms_dist.records.lock import Owner

State = Literal["running", "waiting", "stopped", "failed", "lost", "done", "not started"]
# What `sms-dist status` ends with.
EXIT: dict[State, int] = {
    "done": DONE,
    "running": DONE,
    "waiting": DONE,
    "not started": DONE,
    "stopped": STOPPED,
    "failed": FAILED,
    "lost": FAILED,
}
ENDS = ("done", "stopped", "fault")


@dataclass(frozen=True)
class Verdict:
    state: State
    reason: str


def judge(seen: Seen) -> Verdict:
    """By the last line about jobs, the last events, and the lock, which ranks at work keep fresh.

    Times of files are compared with each other only, or with the file system's own clock.
    """
    end = None if seen.is_starting else _end(seen)
    if _is_queued(seen):
        return Verdict("waiting", _queue(seen))
    if not seen.has_started:
        return Verdict("not started", "no start has come as far as this folder")
    if end and kind(end) == "done":
        return Verdict("done", f"by its journal, {_ago(seen, JOURNAL)}")
    if end and kind(end) == "fault":
        return Verdict("failed", said(end))
    if LOCK not in seen.times:
        if end:
            return _stopped(end)
        return Verdict("failed", "the last start ended without a word; see its log")
    return _by_lock(seen, end)


def said(event: dict[str, Any]) -> str:
    """The words of an event that has some; else its fields."""
    for name in ("message", "reason", "text"):
        if isinstance(event.get(name), str):
            return " ".join(str(event[name]).split())
    known = {k: v for k, v in event.items() if k not in ("time", "event")}
    return " ".join(f"{k}={v}" for k, v in known.items() if isinstance(v, str | int | float))


def _stopped(end: dict[str, Any]) -> Verdict:
    return Verdict("stopped", f"{said(end)}; the same command goes on")


def _by_lock(seen: Seen, end: dict[str, Any] | None) -> Verdict:
    owner, age = _owner(seen.lock), seen.age(seen.times[LOCK])
    is_gone = seen.lock.is_gone() if seen.lock else None
    if is_gone:
        return _stopped(end) if end else Verdict("failed", f"{owner} has died")
    engine = seen.config.engine if seen.config else EngineConfig()
    if age > engine.silence_seconds:
        there = "is there, but silent" if is_gone is False else "is silent"
        return Verdict("lost", f"{owner} {there}, {span(age)}")
    words = "stopping" if end else "starting" if seen.is_starting else "at work"
    wish = ", asked to stop" if seen.is_stop_wanted else ""
    return Verdict("running", f"{words}{wish}: {owner}, sign of life {_ago(seen, LOCK)}")


def _owner(owner: Owner | None) -> str:
    if owner is None:
        return "somebody unknown"
    return f"process {owner.pid} on {owner.host}" + (f", job {owner.job}" if owner.job else "")


def _end(seen: Seen) -> dict[str, Any] | None:
    """The event with which the last start ended, if it has."""
    ends = [event for event in seen.session if kind(event) in ENDS]
    return ends[-1] if ends else None


def _is_queued(seen: Seen) -> bool:
    """Has nothing happened since a job came into Slurm's queue?"""
    others = [time for name, time in seen.times.items() if name != JOBS]
    is_last = seen.times.get(JOBS, 0.0) >= max(others, default=0.0)
    return bool(seen.jobs) and seen.jobs[-1].is_queued and is_last


def _queue(seen: Seen) -> str:
    job = seen.jobs[-1]
    verb = "back in the queue since" if job.is_requeued else "in the queue since"
    return f"job {job.job} {verb} {_ago(seen, JOBS)}"


def _ago(seen: Seen, name: str) -> str:
    return ago(seen.age(seen.times.get(name, 0.0)), seen.clock.is_exact)
