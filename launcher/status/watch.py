"""Looks at runs once or again and again, and shows what it sees."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from launcher.status.document import Document, document
from launcher.status.look import look
from launcher.status.screen import one, one_plain, several, several_plain

ENDED = ("done", "stopped", "failed", "lost")
Show = Callable[[list[Document]], None]


def json_lines(runs: Sequence[Path], is_one: bool, every: float | None) -> list[Document]:
    """Prints JSON, when watching a line for each look; returns what was seen last."""
    indent = 2 if every is None else None

    def show(documents: list[Document]) -> None:
        print(json.dumps(documents[0] if is_one else documents, indent=indent), flush=True)

    return _repeated(runs, show, every)


def screens(runs: Sequence[Path], is_one: bool, every: float | None) -> list[Document]:
    """Prints for people, when watching on a terminal in place; returns what was seen last."""
    console = Console()
    if not console.is_terminal:
        return _repeated(runs, lambda found: print(_plain(found, is_one), flush=True), every)
    if every is None:
        return _repeated(runs, lambda found: console.print(_picture(found, is_one)), None)
    with Live(console=console, auto_refresh=False) as live:
        return _repeated(
            runs, lambda found: live.update(_picture(found, is_one), refresh=True), every
        )


def _picture(found: list[Document], is_one: bool) -> RenderableType:
    return one(found[0]) if is_one else several(found)


def _plain(found: list[Document], is_one: bool) -> str:
    return one_plain(found[0]) if is_one else several_plain(found)


def _repeated(runs: Sequence[Path], show: Show, every: float | None) -> list[Document]:
    """Until all runs have ended, or somebody has seen enough; once if `every` is None."""
    found = _look(runs)
    with suppress(KeyboardInterrupt):
        show(found)
        while every is not None and any(each["state"] not in ENDED for each in found):
            time.sleep(every)
            found = _look(runs)
            show(found)
    return found


def _look(runs: Sequence[Path]) -> list[Document]:
    return [document(look(run)) for run in runs]
