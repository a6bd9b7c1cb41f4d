"""A table as text, Markdown, LaTeX (booktabs) or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from itertools import groupby

from sms_dist.reports.grid import Value
from sms_dist.reports.layout import Column, Entry, Row, Table, entry_text
from sms_dist.reports.terminal import text

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


def markdown(table: Table) -> str:
    """A pipe table; outer and inner heads stand in one line."""
    heads = [table.stub, *(", ".join(column.head) for column in table.columns)]
    lines = [f"**{table.title}**", "", _pipes(heads), "|---|" + "---:|" * len(table.columns)]
    for row in table.rows:
        label = f"&nbsp;&nbsp;{row.label}" if row.parent else row.label
        entries = [_markdown_entry(entry, table.usual_n) for entry in row.entries]
        lines.append(_pipes([label, *entries]))
    return "\n".join([*lines, "", " ".join(table.caption), ""])


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _markdown_entry(entry: Entry, usual_n: int) -> str:
    shown = entry_text(entry, usual_n)
    place = entry.place if isinstance(entry, Value) else 0
    return MARKDOWN_MARKS.get(place, "{}").format(shown)


def latex(table: Table) -> str:
    """A table environment; needs the package booktabs."""
    spec = "l" + "r" * len(table.columns)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.title)}. {_tex(' '.join(table.caption))}}}",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        *_latex_heads(table),
        r"\midrule",
        *_latex_rows(table),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_heads(table: Table) -> Iterator[str]:
    """Outer heads above their columns; a head that has none below stands in the lower line."""
    cells, rules, first = [""], [], 2
    for outer, group in _outer_groups(table.columns):
        is_outer = any(len(column.head) > 1 for column in group)
        cells.append(rf"\multicolumn{{{len(group)}}}{{c}}{{{_tex(outer) if is_outer else ''}}}")
        rules += [rf"\cmidrule(lr){{{first}-{first + len(group) - 1}}}"] if is_outer else []
        first += len(group)
    if rules:
        yield " & ".join(cells) + r" \\"
        yield " ".join(rules)
    inner = [" ".join(column.head[1:] or column.head) for column in table.columns]
    yield " & ".join([_tex(table.stub), *map(_tex, inner)]) + r" \\"


def _latex_rows(table: Table) -> Iterator[str]:
    for number, row in enumerate(table.rows):
        if number and not row.parent and (row.is_spanning or _has_parts(table, number)):
            yield r"\addlinespace"
        label = rf"\quad {_tex(row.label)}" if row.parent else _tex(row.label)
        yield " & ".join([label, *_latex_entries(table, row)]) + r" \\"


def _has_parts(table: Table, number: int) -> bool:
    """Does the row, or the one above it, belong to a block of several rows?"""
    below = table.rows[number + 1 : number + 2]
    return bool(table.rows[number - 1].parent) or any(row.parent for row in below)


def _latex_entries(table: Table, row: Row) -> Iterator[str]:
    if not row.is_spanning:
        yield from (_latex_entry(entry, table.usual_n) for entry in row.entries)
        return
    start = 0
    for _, group in _outer_groups(table.columns):
        entries = row.entries[start : start + len(group)]
        least = min(entries, key=lambda e: isinstance(e, Value) and e.place)  # marked in all or not
        yield rf"\multicolumn{{{len(group)}}}{{c}}{{{_latex_entry(least, table.usual_n)}}}"
        start += len(group)


def _latex_entry(entry: Entry, usual_n: int) -> str:
    shown = _tex(entry_text(entry, usual_n, plus_minus=" ±"))
    place = entry.place if isinstance(entry, Value) else 0
    return LATEX_MARKS.get(place, "{}").format(shown)


def _outer_groups(columns: tuple[Column, ...]) -> list[tuple[str, list[Column]]]:
    return [(outer, list(group)) for outer, group in groupby(columns, lambda c: c.outer)]


def _tex(words: str) -> str:
    escaped = "".join(LATEX_SPECIAL.get(character, character) for character in words)
    for plain, typeset in LATEX_WORDS.items():
        escaped = escaped.replace(plain, typeset)
    return re.sub(r"\b([mn])(?= ?=)", r"$\1$", escaped)


def csv_text(table: Table) -> str:
    """Mean, deviation and n in columns of their own, in the units that people read."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    is_value = [
        any(isinstance(row.entries[i], Value) for row in table.rows)
        for i in range(len(table.columns))
    ]
    head = [table.stub]
    for column, has_values in zip(table.columns, is_value, strict=True):
        name = ", ".join(column.head)
        head += [name, f"{name}: std", f"{name}: n"] if has_values else [name]
    writer.writerow(head)
    for row in table.rows:
        cells = [f"{row.parent}: {row.label}" if row.parent else row.label]
        for entry, has_values in zip(row.entries, is_value, strict=True):
            cells += _csv_value(entry) if has_values else [entry_text(entry, 0) if entry else ""]
        writer.writerow(cells)
    return file.getvalue()


def _csv_value(entry: Entry) -> list[str]:
    if not isinstance(entry, Value):
        return ["", "", ""]
    factor = entry.form.factor
    std = "" if entry.std is None else f"{factor * entry.std:.6g}"
    return [f"{factor * entry.mean:.6g}", std, str(entry.n)]


# name -> (suffix of files, function)
FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "text": ("txt", text),
    "markdown": ("md", markdown),
    "latex": ("tex", latex),
    "csv": ("csv", csv_text),
}
