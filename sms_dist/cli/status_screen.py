"""The status of runs for people, or as JSON; once, or again until all have ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sms_dist.base.process import lost_output
from sms_dist.cli.amounts import about, ago, span
from sms_dist.cli.status import RunStatus
from sms_dist.start.screen import plain_line

LABEL = 10  # columns
MAX_GROUPS = 32
MAX_LINES = 6  # of warnings and so on
ENDED = ("done", "stopped", "failed", "lost")
COLUMNS = ("run", "state", "phase", "candidates", "left", "last sign")
Line = tuple[str, str]  # label and text


def show(runs: Sequence[Path], is_one: bool, is_json: bool, every: float | None) -> list[RunStatus]:
    """Print the runs, again after `every` seconds until all have ended; return the last look."""
    console = Console()
    is_live = console.is_terminal and not is_json and every is not None
    live = Live(console=console, auto_refresh=False) if is_live else nullcontext()
    statuses = [RunStatus(run) for run in runs]
    with suppress(KeyboardInterrupt), live:
        while True:
            values = [status.as_json() for status in statuses]
            if isinstance(live, Live):
                live.update(Text(text(statuses, is_one)), refresh=True)
            elif is_json:
                indent = 2 if every is None else None
                print(json.dumps(values[0] if is_one else values, indent=indent), flush=True)
            else:
                print(text(statuses, is_one), flush=True)
            if every is None or lost_output() or all(status.state in ENDED for status in statuses):
                break
            time.sleep(every)
            statuses = [RunStatus(run) for run in runs]
    return statuses


def text(statuses: Sequence[RunStatus], is_one: bool) -> str:
    """Return everything about one run, or a line for each of several."""
    if is_one:
        return "\n".join(_lines(statuses[0]))
    rows = [COLUMNS, *(_row(status) for status in statuses)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _lines(status: RunStatus) -> Iterator[str]:
    values = status.as_json()
    yield "{name}: {method} on {data}, {model}".format_map(values)
    yield from _labelled("state", [f"{status.state}  {status.reason}"])
    if status.phase:
        yield from _labelled("phase", [_phase(status.phase)])
    phase, run = status.seconds_left
    if phase is not None and run is not None and status.state != "done":
        later = "" if status.is_running else ", once it goes on"
        yield from _labelled("left", [f"this phase {about(phase)}, the run {about(run)}{later}"])
    if status.state in ("running", "failed", "lost"):  # else it does not matter what they did last
        groups = (plain_line(*each) for each in status.groups.items())
        yield from _labelled("groups", groups, MAX_GROUPS)
    starts = [str(values["starts"])]
    if values["restarts"]:
        starts.append(f"{values['restarts']} of them by torchrun")
    if values["jobs"]:
        starts.append(f"jobs {', '.join(values['jobs'])}; requeued {values['requeues']} times")
    yield from _labelled("starts", ["; ".join(starts)])
    yield from _labelled("events", map(_event, values["events"]))
    shown = [event["text"] for event in values["events"]]
    faults = [f"{e['event']}: {e['text']}" for e in values["faults"] if e["text"] not in shown]
    yield from _labelled("faults", faults)
    yield from _labelled("warnings", [each for each in values["warnings"] if each not in shown])
    yield from _labelled("damaged", status.damaged)


def _phase(phase: dict[str, Any]) -> str:
    if phase["index"] == 0:
        return f"pretraining, before {phase['num_phases']} phases"
    sparsity = "" if phase["sparsity"] is None else f", sparsity {100 * phase['sparsity']:.2f}%"
    done, at_work, to_do = (len(phase[name]) for name in ("done", "at_work", "to_do"))
    counts = f"candidates: {done} done, {at_work} at work, {to_do} to do"
    return f"{phase['index']} of {phase['num_phases']}{sparsity}; {counts}"


def _event(event: dict[str, Any]) -> str:
    age = "some time" if event["age"] is None else span(max(0.0, event["age"]))
    return f"{age:>10} ago  {event['event']}: {event['text']}"


def _row(status: RunStatus) -> tuple[str, ...]:
    """Return run, state, phase, candidates, left and last sign of a run among others."""
    values, phase, left = status.as_json(), status.phase, status.seconds_left[1]
    place = f"{phase['index']}/{phase['num_phases']}" if phase else ""
    num = len(phase["done"] + phase["at_work"] + phase["to_do"]) if phase else 0
    counts = f"{len(phase['done'])}/{num}" if phase and num else ""
    sign = values["last_sign"]
    last = ago(sign["age"], sign["is_exact"]) if sign else ""
    return values["run"], status.state, place, counts, "" if left is None else about(left), last


def _labelled(label: str, texts: Iterable[str], most: int = MAX_LINES) -> Iterator[str]:
    lines = list(texts)
    if len(lines) > most:
        lines = [f"({len(lines) - most} more: see --json)", *lines[-most:]]
    for line in lines:
        yield f"{label:<{LABEL}}{line}"
