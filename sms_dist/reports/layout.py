"""A table as plain data, before it becomes text, Markdown, LaTeX or CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sms_dist.reports.grid import Value, placed

Entry = Value | str | None  # None: there is nothing to show


@dataclass(frozen=True)
class Column:
    """A column's head, from the outside in: ("Sparsity 53.6% (phase 1)", "m = 3")."""

    head: tuple[str, ...]

    @property
    def outer(self) -> str:
        return self.head[0]


@dataclass(frozen=True)
class Row:
    label: str
    entries: tuple[Entry, ...]
    parent: str = ""  # the row that this one explains
    is_spanning: bool = False  # one entry for all columns of an outer head, repeated in each


@dataclass(frozen=True)
class Table:
    title: str
    caption: tuple[str, ...]  # sentences
    stub: str  # head of the rows' labels; "" if there are none
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def usual_n(self) -> int:
        """The number of runs behind most values; the others say theirs."""
        counts = Counter(e.n for row in self.rows for e in row.entries if isinstance(e, Value))
        return max(counts, key=lambda n: (counts[n], n), default=0)


@dataclass(frozen=True)
class Report:
    """Tables, and what has to be said about them."""

    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def marked(rows: Sequence[Row], places: int = 1) -> tuple[Row, ...]:
    """The rows with the best of each column marked."""
    columns: list[list[Entry]] = []
    for entries in zip(*(row.entries for row in rows), strict=True):
        found = placed([entry if isinstance(entry, Value) else None for entry in entries], places)
        columns.append([new or old for new, old in zip(found, entries, strict=True)])
    by_row = zip(*columns, strict=True) if columns else [()] * len(rows)
    return tuple(replace(row, entries=tuple(e)) for row, e in zip(rows, by_row, strict=True))


def entry_text(entry: Entry, usual_n: int, plus_minus: str = " ± ") -> str:
    """76.50 ± 0.16, with (n=2) behind it where that is not the usual number of runs."""
    if not isinstance(entry, Value):
        return entry or "-"
    mean, std = entry.texts()
    deviation = "" if std is None else plus_minus + std
    return mean + deviation + ("" if entry.n == usual_n else f" (n={entry.n})")
