"""A table as text for people: bold on a terminal, stars elsewhere, parted where it is too wide."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from sms_dist.reports.grid import Value
from sms_dist.reports.layout import Entry, Table, entry_text

STYLES = {1: "bold", 2: "underline", 3: "italic"}
PLAIN = {1: "* ", 2: "(2nd) ", 3: "(3rd) "}  # where there are no styles
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
    """As few tables as fit into the width; the columns of an outer head stay together."""
    start = stop = 0
    for _, group in groupby(table.columns, lambda column: column.outer):
        following = stop + len(list(group))
        if start < stop and not _fits(_rich(table, console, start, following), console.width):
            yield _rich(table, console, start, stop)
            start = stop
        stop = following
    yield _rich(table, console, start, stop)


def _fits(part: RichTable, width: int) -> bool:
    return Console(width=UNLIMITED).measure(part).maximum <= width


def _rich(table: Table, console: Console, start: int, stop: int) -> RichTable:
    """The columns from `start` to before `stop`."""
    shown = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column(table.stub, no_wrap=True)
    for column in table.columns[start:stop]:
        head = "\n".join(column.head).replace(" (", "\n(")
        shown.add_column(head, justify="right", no_wrap=True)
    for number, row in enumerate(table.rows):
        following = table.rows[number + 1 : number + 2]
        is_last_of_block = bool(row.parent) and not any(below.parent for below in following)
        found = row.entries[start:stop]
        entries = [_entry(entry, table.usual_n, console.is_terminal) for entry in found]
        label = f"  {row.label}" if row.parent else row.label
        shown.add_row(Text(label), *entries, end_section=is_last_of_block)
    return shown


def _entry(entry: Entry, usual_n: int, is_terminal: bool) -> Text:
    shown = entry_text(entry, usual_n)
    place = entry.place if isinstance(entry, Value) else 0
    if is_terminal:
        return Text(shown, STYLES.get(place, ""))
    return Text(PLAIN.get(place, "") + shown)  # in front: numbers stay below each other
