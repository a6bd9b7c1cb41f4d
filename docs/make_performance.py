"""Writes the table of performance.md from the benchmarks' results under results/bench."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "benchmarks")]  # runs from a clone

from rows import Measured, Row, read  # noqa: E402

TARGET = HERE / "performance.md"
RESULTS = HERE.parent / "results" / "bench"
START, END = "<!-- table: written by make docs -->", "<!-- end of the table -->"
ORDER = (
    *("threshold", "soup", "step", "freed_memory", "in_group_gradients", "loader"),
    *("batch_norm", "groups"),
    *("phase", "start", "packed", "compiled", "slow_links", "forecast"),
    *("scale_algorithms", "scale_ranks"),
)
HEAD = """\
| benchmark | what | against | measured: median (range) | target | |
|---|---|---|---|---|---|"""


def table(results: Sequence[Measured]) -> str:
    """A row for each comparison, and below where and how all of it was measured."""
    rows = [_cells(row) for measured in results for row in measured.rows]
    places = [
        f"- `{each.command}`: {each.day}, commit {each.commit}, {each.machine}, {each.versions}"
        for each in results
    ]
    return "\n".join([HEAD, *rows, "", *places])


def document(page: str, results: Sequence[Measured]) -> str:
    """The page with the table of these results in it."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(results)}\n{END}{after}"


def results() -> list[Measured]:
    """Those that are there, in the order of the table."""
    files = {file.stem: file for file in RESULTS.glob("*.json")}
    return [read(files[name]) for name in ORDER if name in files]


def _cells(row: Row) -> str:
    target = "" if row.target is None else str(row.target)
    sign = {None: "", True: "met", False: "**missed**"}[row.is_met]
    note = f"<br>{row.note}" if row.note else ""
    cells = (row.benchmark, row.what + note, row.baseline, row.figure, target, sign)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    TARGET.write_text(document(TARGET.read_text(encoding="utf-8"), results()), encoding="utf-8")
