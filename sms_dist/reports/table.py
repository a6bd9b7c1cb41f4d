"""A table as plain data, and as text, Markdown, LaTeX (booktabs) and CSV."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from sms_dist.reports import scores

Head = tuple[str, ...]
"""The head of a column from the outside in: ("Sparsity 53.6% (phase 1)", "m = 3")."""
# How the best, second and third are marked; in plain text in front, to keep numbers aligned.
STYLES = {1: "bold", 2: "underline", 3: "italic"}
PLAIN_MARKS = {1: "* {}", 2: "(2nd) {}", 3: "(3rd) {}"}
MARKDOWN_MARKS = {1: "**{}**", 2: "<u>{}</u>", 3: "*{}*"}
LATEX_MARKS = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}", 3: r"\textit{{{}}}"}
LATEX_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
}
LATEX_WORDS = {r"IMP\_mx": r"IMP$_{m\times}$", "with m phases": "with $m$ phases"}
SPANNED = "\0"  # stands for a cell over which another one goes
UNLIMITED, CAPTION_WIDTH = 1000, 100  # characters


@dataclass(frozen=True)
class Value:
    """Mean and standard deviation (n - 1 in its denominator; None for a single number)."""

    mean: float
    std: float | None
    n: int
    metric: str
    rank: int = 0  # 1: the best of those it is compared with, 2, 3; 0: not marked

    @property
    def scale(self) -> float:
        """The factor that numbers are multiplied by to be shown."""
        return scores.score(self.metric).scale

    def texts(self) -> list[str]:
        """Return the mean, and the deviation if there is one, as they are shown."""
        numbers = [self.mean] if self.std is None else [self.mean, self.std]
        return [scores.number(number, self.metric) for number in numbers]


Entry = Value | str | None
"""The content of a cell; None: there is nothing to show."""


@dataclass(frozen=True)
class Row:
    label: str
    entries: tuple[Entry, ...]
    parent: str = ""  # the label of the row that this one explains
    is_spanning: bool = False  # one entry for all columns of an outer head, repeated in each


@dataclass(frozen=True)
class Table:
    title: str
    caption: tuple[str, ...]  # sentences
    stub: str  # head of the rows' labels
    columns: tuple[Head, ...]
    rows: tuple[Row, ...]

    @cached_property
    def usual_n(self) -> int:
        """The number of runs behind most values; the others show theirs."""
        counts = Counter(e.n for row in self.rows for e in row.entries if isinstance(e, Value))
        return max(counts, key=lambda n: (counts[n], n), default=0)

    def shown(self, entry: Entry, plus_minus: str = " ± ") -> str:
        """Return "76.50 ± 0.16", with (n=2) behind it where that is not the usual number."""
        if not isinstance(entry, Value):
            return entry or "-"
        n = "" if entry.n == self.usual_n else f" (n={entry.n})"
        return plus_minus.join(entry.texts()) + n

    def blocks(self) -> Iterator[slice]:
        """Yield the columns below each outer head."""
        for _, group in groupby(range(len(self.columns)), key=lambda place: self.columns[place][0]):
            places = list(group)
            yield slice(places[0], places[-1] + 1)


def ranked(entries: Sequence[Entry], places: int = 1) -> list[Entry]:
    """Return the entries with the best means ranked; those that look the same share a rank.

    A value without another to compare it with has no rank.
    """
    known = [entry for entry in entries if isinstance(entry, Value)]
    if len(known) < 2:
        return list(entries)
    is_larger_better = scores.score(known[0].metric).larger_is_better
    means = sorted({float(value.texts()[0]) for value in known}, reverse=is_larger_better)
    rank = {mean: number for number, mean in enumerate(means[:places], 1)}
    return [
        replace(e, rank=rank.get(float(e.texts()[0]), 0)) if isinstance(e, Value) else e
        for e in entries
    ]


def with_ranks(rows: Sequence[Row], places: int = 1) -> list[Row]:
    """Return the rows with the best of each column ranked."""
    columns = [ranked(column, places) for column in zip(*(r.entries for r in rows), strict=True)]
    by_row = zip(*columns, strict=True) if columns else [()] * len(rows)
    return [replace(row, entries=tuple(e)) for row, e in zip(rows, by_row, strict=True)]


def _marked(shown: str, entry: Entry, marks: dict[int, str]) -> str:
    return marks.get(entry.rank if isinstance(entry, Value) else 0, "{}").format(shown)


def markdown(table: Table) -> str:
    """Return a pipe table; outer and inner heads stand in one line."""
    cells = [[table.stub, *map(", ".join, table.columns)]]
    for row in table.rows:
        entries = [_marked(table.shown(entry), entry, MARKDOWN_MARKS) for entry in row.entries]
        cells.append(["&nbsp;&nbsp;" * bool(row.parent) + row.label, *entries])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in cells]
    lines.insert(1, "|---|" + "---:|" * len(table.columns))
    return "\n".join([f"**{table.title}**", "", *lines, "", " ".join(table.caption), ""])


def csv(table: Table) -> str:
    """Return mean, deviation and n in columns of their own, in the units that people read."""
    labels = [f"{row.parent}: {row.label}" if row.parent else row.label for row in table.rows]
    columns: list[tuple[str, list[object]]] = [(table.stub, [*labels])]
    for place, head in enumerate(table.columns):
        name, entries = ", ".join(head), [row.entries[place] for row in table.rows]
        values = [entry if isinstance(entry, Value) else None for entry in entries]
        if any(values):
            columns.append((name, [v and v.scale * v.mean for v in values]))
            columns.append((f"{name}: std", [v and v.std and v.scale * v.std for v in values]))
            columns.append((f"{name}: n", [v and v.n for v in values]))
        else:
            columns.append((name, [*entries]))
    frame = pd.DataFrame(dict(enumerate(cells for _, cells in columns)))
    names = [name for name, _ in columns]
    return str(frame.to_csv(index=False, header=names, lineterminator="\n", float_format="%.6g"))


def latex(table: Table) -> str:
    """Return a table environment; it needs the package booktabs."""
    has_outer = any(len(head) > 1 for head in table.columns)
    heads = [(_tex(h[0]) * (len(h) > 1), _tex(" ".join(h[1:] or h))) for h in table.columns]
    rules = [
        rf"\cmidrule(lr){{{block.start + 2}-{block.stop + 1}}}"
        for block in table.blocks()
        if len(table.columns[block.start]) > 1
    ]
    heads.insert(0, ("", "\n".join(filter(None, [" ".join(rules), _tex(table.stub)]))))
    cells = []
    for number, row in enumerate(table.rows):
        # Space parts blocks of several rows and rows that span columns.
        around = table.rows[max(number - 1, 0)], *table.rows[number + 1 : number + 2]
        is_apart = not row.parent and (row.is_spanning or any(each.parent for each in around))
        space = "\\addlinespace\n" * bool(number and is_apart)
        cells.append([space + r"\quad " * bool(row.parent) + _tex(row.label)])
        for block in table.blocks():
            entries = row.entries[block]
            shown = [_marked(_tex(table.shown(e, " ±")), e, LATEX_MARKS) for e in entries]
            if row.is_spanning:  # marked where it is the best of all columns
                one = rf"\multicolumn{{{len(shown)}}}{{c}}{{{min(shown, key=len)}}}"
                shown = [one, *[SPANNED] * (len(shown) - 1)]
            cells[-1] += shown
    columns = pd.MultiIndex.from_tuples(heads) if has_outer else [head for _, head in heads]
    written = pd.DataFrame(cells, columns=columns).to_latex(
        index=False,
        escape=False,
        multicolumn_format="c",
        column_format="l" + "r" * len(table.columns),
        caption=f"{_tex(table.title)}. {_tex(' '.join(table.caption))}",
    )
    begin = "% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\n"
    return str(written).replace("\\begin{table}\n", begin).replace(f" & {SPANNED}", "")


def _tex(words: str) -> str:
    escaped = "".join(LATEX_SPECIAL.get(character, character) for character in words)
    for plain, typeset in LATEX_WORDS.items():
        escaped = escaped.replace(plain, typeset)
    return re.sub(r"\b([mn])(?= ?=)", r"$\1$", escaped)


def text(table: Table, width: int | None = None) -> str:
    """Return the table as wide as it is; for a terminal of some `width` styled and split to fit."""
    console = Console(
        file=io.StringIO(),
        width=width or UNLIMITED,
        force_terminal=width is not None,
        color_system=None if width is None else "standard",
        legacy_windows=False,
    )
    start = stop = 0
    with console.capture() as capture:
        console.print(Text(table.title, style="bold"))
        for block in table.blocks():  # the columns of an outer head stay together
            wider = _rich(table, slice(start, block.stop), console.is_terminal)
            if start < stop and Console(width=UNLIMITED).measure(wider).maximum > console.width:
                console.print(_rich(table, slice(start, stop), console.is_terminal))
                start = stop
            stop = block.stop
        console.print(_rich(table, slice(start, stop), console.is_terminal))
        console.print(Text(" ".join(table.caption)), width=min(console.width, CAPTION_WIDTH))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def _rich(table: Table, columns: slice, is_terminal: bool) -> RichTable:
    part = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    part.add_column(table.stub, no_wrap=True)
    for head in table.columns[columns]:
        part.add_column("\n".join(head).replace(" (", "\n("), justify="right", no_wrap=True)
    for row, below in zip(table.rows, [*table.rows[1:], None], strict=False):
        cells = [Text("  " * bool(row.parent) + row.label)]
        for entry in row.entries[columns]:
            rank = entry.rank if isinstance(entry, Value) else 0
            mark = "{}" if is_terminal else PLAIN_MARKS.get(rank, "{}")
            style = STYLES.get(rank, "") if is_terminal else ""
            cells.append(Text(mark.format(table.shown(entry)), style))
        is_last_part = bool(row.parent) and not (below and below.parent)
        part.add_row(*cells, end_section=is_last_part)
    return part


FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "text": ("txt", text),
    "markdown": ("md", markdown),
    "latex": ("tex", latex),
    "csv": ("csv", csv),
}
"""The formats of tables by name: suffix of files, function."""
