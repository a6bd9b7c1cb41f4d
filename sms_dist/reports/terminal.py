"""A table as text for people: bold on a terminal, stars elsewhere, parted where it is too wide."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from sms_dist.reports.grid import Value
from sms_dist.reports.layout import Entry, Table, entry_text

STYLES = {1: "bold", 2: "underline", 3: "italic"}
PLAIN = {1: " *", 2: " (2nd)", 3: " (3rd)"}  # where there are no styles
UNLIMITED = 1000
CAPTION_WIDTH = 100


def text(table: Table, width: int | None = None) -> str:
    """The table as wide as it is; for a terminal of some `width`: styled, and parted to fit."""
    is_terminal = width is not None
    console = Console(
        file=io.StringIO(),
        width=width or UNLIMITED,
        force_terminal=is_terminal,
        color_system="standard" if is_terminal else None,
        legacy_windows=False,
    )
    with console.capture() as capture:
        console.print(Text(table.title, style="bold"))
        for part in _parts(table, console):
            console.print(part)
    wide = Console(file=io.StringIO(), width=min(width or CAPTION_WIDTH, CAPTION_WIDTH))
    with wide.capture() as caption:
        wide.print(Text(" ".join(table.caption)))
    lines = [line.rstrip() for line in (capture.get() + caption.get()).splitlines()]
    return "\n".join(lines) + "\n"


def _parts(table: Table, console: Console) -> Iterator[RichTable]:
    """The table, or one for each outer head if the console is too narrow for all."""
    whole = _rich(table, table.usual_n, console.is_terminal)
    if console.measure(whole).minimum <= console.width:
        yield whole
        return
    start = 0
    for _, group in groupby(table.columns, lambda column: column.outer):
        stop = start + len(list(group))
        rows = tuple(replace(row, entries=row.entries[start:stop]) for row in table.rows)
        part = replace(table, columns=table.columns[start:stop], rows=rows)
        yield _rich(part, table.usual_n, console.is_terminal)
        start = stop


def _rich(table: Table, usual_n: int, is_terminal: bool) -> RichTable:
    shown = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column(table.stub, no_wrap=True)
    for column in table.columns:
        head = "\n".join(column.head).replace(" (", "\n(")
        shown.add_column(head, justify="right", no_wrap=True)
    room = max((len(PLAIN.get(place, "")) for place in _places(table)), default=0)
    for number, row in enumerate(table.rows):
        following = table.rows[number + 1 : number + 2]
        is_last_of_block = bool(row.parent) and not any(below.parent for below in following)
        entries = [_entry(entry, usual_n, is_terminal, room) for entry in row.entries]
        label = f"  {row.label}" if row.parent else row.label
        shown.add_row(Text(label), *entries, end_section=is_last_of_block)
    return shown


def _places(table: Table) -> set[int]:
    return {e.place for row in table.rows for e in row.entries if isinstance(e, Value)}


def _entry(entry: Entry, usual_n: int, is_terminal: bool, room: int) -> Text:
    """`room` for the mark that stands for a style, so that numbers stay below each other."""
    shown = entry_text(entry, usual_n)
    place = entry.place if isinstance(entry, Value) else 0
    if is_terminal:
        return Text(shown, STYLES.get(place, ""))
    return Text(shown + PLAIN.get(place, "").ljust(room))
