"""What a sweep shows: the grid as a table with its commands, a line per point, the end."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from launcher.sweeping.children import LOG, Outcome
from launcher.sweeping.tasks import Task, result, state


def show_grid(tasks: Sequence[Task], console: Console) -> None:
    """A row per point: its varied settings, its folder, what is there of it."""
    keys = list(dict.fromkeys(key for task in tasks for key, _ in task.point.varied))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", *keys, "run folder", "state"):
        table.add_column(name, overflow="fold")
    for number, task in enumerate(tasks, 1):
        varied = dict(task.point.varied)
        values = [varied.get(key, "-") for key in keys]
        row = (str(number), *values, str(task.folder), state(task))
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def run_line(task: Task, file: Path | None) -> str:
    """A command that runs one point."""
    words = ["sms-dist", "run", *task.arguments(file)]
    return shlex.join([*words, "--nproc", str(task.num_ranks)])


class Progress:
    """A line for each point that has ended; on a terminal also what runs now."""

    def __init__(self, tasks: Sequence[Task], console: Console) -> None:
        self._console, self._num = console, len(tasks)
        self._room = max(len(task.point.label) for task in tasks)
        self._status = console.status("")
        self._told = 0

    def __enter__(self) -> Progress:
        self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def watch(self, running: Sequence[Task]) -> None:
        self._status.update(Text("running: " + "; ".join(task.point.label for task in running)))

    def tell(self, outcome: Outcome) -> None:
        self._told += 1
        task, room = outcome.task, len(str(self._num))
        line = f"[{self._told:>{room}}/{self._num}] {task.point.label:<{self._room}}"
        line += f"  {outcome.status:<11}"
        if outcome.seconds:
            line += f"  {outcome.seconds / 60:5.1f} min"
        if outcome.status in ("done", "skipped"):
            line += f"  {result(task)}"
        self.say(line.rstrip())

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def ending(outcomes: Sequence[Outcome]) -> list[str]:
    """How many of each status; where to look for what went wrong; how to go on."""
    counts = Counter(outcome.status for outcome in outcomes)
    lines = [", ".join(f"{count} {status}" for status, count in counts.items())]
    for outcome in outcomes:
        if outcome.status == "failed":
            log = outcome.task.paths.logs / LOG
            lines.append(f"failed: {outcome.task.point.label}: {outcome.said} (see {log})")
    if counts.keys() & {"failed", "stopped", "not started"}:
        lines.append("the same command goes on with what is not done")
    return lines
