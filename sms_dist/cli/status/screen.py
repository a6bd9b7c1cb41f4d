"""The status of runs as people see it: coloured on a terminal, else whole lines; once or again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sms_dist.cli.amounts import about, ago, bytes_text, span
from sms_dist.cli.status.folder import look
from sms_dist.cli.status.report import EventStatus, PhaseStatus, PointStatus, Status, status
from sms_dist.run.progress import Progress
from sms_dist.start.screen import live_table, plain_line

LABEL = 10  # columns
MAX_GROUPS = 32
MAX_LINES = 6  # of recovery points, warnings and so on
ENDED = ("done", "stopped", "failed", "lost")
COLOURS = {"running": "green", "done": "green", "failed": "red", "lost": "red"}
COLUMNS = ("run", "state", "phase", "candidates", "left", "last sign")
Line = tuple[str, str]  # label and text


def json_lines(runs: Sequence[Path], is_one: bool, every: float | None) -> list[Status]:
    """Print JSON, when watching a line for each look; return the last look."""
    indent = 2 if every is None else None

    def show(found: list[Status]) -> None:
        values = [each.as_json() for each in found]
        print(json.dumps(values[0] if is_one else values, indent=indent), flush=True)

    return _repeated(runs, show, every)


def screens(runs: Sequence[Path], is_one: bool, every: float | None) -> list[Status]:
    """Print for people, when watching on a terminal in place; return the last look."""
    console = Console()

    def picture(found: list[Status]) -> RenderableType:
        return one(found[0]) if is_one else several(found)

    def plain(found: list[Status]) -> None:
        print(one_plain(found[0]) if is_one else several_plain(found), flush=True)

    if not console.is_terminal:
        return _repeated(runs, plain, every)
    if every is None:
        return _repeated(runs, lambda found: console.print(picture(found)), None)
    with Live(console=console, auto_refresh=False) as live:
        return _repeated(runs, lambda found: live.update(picture(found), refresh=True), every)


def one(run: Status) -> RenderableType:
    """Everything about a run, within 80 columns."""
    state = Text.assemble((run.state, _style(run)), f"  {run.reason}")
    groups = _groups(run)
    middle: list[RenderableType] = ["", live_table(groups), *_rest(run), ""] if groups else []
    above = _grid([("state", state), *_work(run)])
    return Group(Text(_head(run), "bold"), above, *middle, _grid(_records(run)))


def several(runs: Sequence[Status]) -> Table:
    """A row for each run."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, no_wrap=name != "run", overflow="fold")
    for run in runs:
        table.add_row(Text(run.run), Text(run.state, _style(run)), *map(Text, _row(run)))
    return table


def one_plain(run: Status) -> str:
    lines: list[Line] = [("state", f"{run.state}  {run.reason}"), *_work(run)]
    for number, progress in enumerate(_groups(run)):
        if progress is not None:
            lines.append(("groups", plain_line(number, progress)))
    lines += [("groups", text) for text in _rest(run)]
    lines += _records(run)
    return "\n".join([_head(run), *(f"{label:<{LABEL}}{text}" for label, text in lines)])


def several_plain(runs: Sequence[Status]) -> str:
    rows = [COLUMNS, *((run.run, run.state, *_row(run)) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (map(str.ljust, cells, widths) for cells in rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _repeated(
    runs: Sequence[Path], show: Callable[[list[Status]], None], every: float | None
) -> list[Status]:
    """Until all runs have ended, or somebody presses Ctrl-C; once if `every` is None."""
    found = [status(look(run)) for run in runs]
    with suppress(KeyboardInterrupt):
        show(found)
        while every is not None and any(each.state not in ENDED for each in found):
            time.sleep(every)
            found = [status(look(run)) for run in runs]
            show(found)
    return found


def _style(run: Status) -> str:
    return f"bold {COLOURS.get(run.state, 'yellow')}"


def _grid(lines: Iterable[tuple[str, Text | str]]) -> Table:
    """A label is said once, and a long text goes on under itself."""
    table = Table.grid(padding=0)
    table.add_column(width=LABEL, style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    last = ""
    for label, text in lines:
        shown = text if isinstance(text, Text) else Text(text)
        table.add_row("" if label == last else label, shown)
        last = label
    return table


def _groups(run: Status) -> list[Progress | None]:
    """The first groups, where it matters what they do or did last."""
    if not run.groups or run.state not in ("running", "failed", "lost"):
        return []
    num_groups = run.num_groups or max(run.groups) + 1
    return [run.groups.get(group) for group in range(min(num_groups, MAX_GROUPS))]


def _rest(run: Status) -> list[str]:
    rest = (run.num_groups or 0) - MAX_GROUPS
    return [f"and {rest} more groups: see --json"] if rest > 0 and _groups(run) else []


def _head(run: Status) -> str:
    return f"{run.name}: {run.method or '?'} on {run.data or '?'}, {run.model or '?'}"


def _work(run: Status) -> Iterator[Line]:
    """What comes before the groups."""
    if run.phase:
        yield "phase", _phase(run.phase)
    left = run.seconds_left
    if left and (left.phase is not None or left.run is not None):
        words = [
            f"{name} not known yet" if seconds is None else f"{name} {about(seconds)}"
            for name, seconds in (("this phase", left.phase), ("the run", left.run))
        ]
        yield "left", ", ".join(words) + ("" if run.state == "running" else ", once it goes on")


def _records(run: Status) -> Iterator[Line]:
    """What comes after the groups; what has been said is not said again."""
    yield from _last("recovery", [_point(point) for point in run.recovery])
    yield "starts", _starts(run)
    yield "disk", f"{bytes_text(run.disk_bytes)} in {run.run}"
    for event in run.events:
        yield "events", f"{_age(event):>10} ago  {event.event}: {event.text}"
    shown = [event.text for event in run.events]
    faults = [event for event in run.faults if event.text not in shown]
    yield from _last("faults", [f"{each.event}: {each.text}" for each in faults])
    yield from _last("warnings", [text for text in run.warnings if text not in shown])
    yield from _last("damaged", run.damaged)


def _row(run: Status) -> tuple[str, ...]:
    """Of a run among others: phase, candidates, left, last sign."""
    phase, left, sign = run.phase, run.seconds_left, run.last_sign
    place = counts = ""
    if phase:
        place = f"{phase.index}/{phase.num_phases}"
    if phase and phase.index:
        counts = f"{len(phase.done)}/{len(phase.done + phase.at_work + phase.to_do)}"
    rest = about(left.run) if left and left.run is not None else ""
    return place, counts, rest, ago(sign.age, sign.is_exact) if sign else ""


def _phase(phase: PhaseStatus) -> str:
    if phase.index == 0:
        return f"pretraining, before {phase.num_phases} phases"
    sparsity = "" if phase.sparsity is None else f", sparsity {100 * phase.sparsity:.2f}%"
    return (
        f"{phase.index} of {phase.num_phases}{sparsity}; candidates: {len(phase.done)} done, "
        f"{len(phase.at_work)} at work, {len(phase.to_do)} to do"
    )


def _point(point: PointStatus) -> str:
    of = "" if point.num_steps is None else f" of {point.num_steps:,}"
    return f"{point.of}: step {point.steps:,}{of}, {ago(point.age)}"


def _starts(run: Status) -> str:
    words = [str(run.starts)]
    if run.restarts:
        words.append(f"{run.restarts} of them by torchrun")
    if run.jobs:
        words.append(f"job{'s' if len(run.jobs) > 1 else ''} {', '.join(run.jobs)}")
        words.append(f"requeued {run.requeues} times")
    return "; ".join(words)


def _age(event: EventStatus) -> str:
    return "some time" if event.age is None else span(max(0.0, event.age))


def _last(label: str, texts: Sequence[str]) -> Iterator[Line]:
    rest = len(texts) - MAX_LINES
    if rest > 0:
        yield label, f"({rest} more: see --json)"
    for text in texts[-MAX_LINES:]:
        yield label, text
