"""Numbers with their spread, and tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def mean_std(values: Iterable[float | None], digits: int = 2) -> str:
    """mean ± standard deviation (n), of those that were measured."""
    found = [value for value in values if value is not None]
    if not found:
        return "(0)"
    spread = statistics.stdev(found) if len(found) > 1 else 0.0
    return f"{statistics.mean(found):.{digits}f} ± {spread:.{digits}f} ({len(found)})"


def span(values: Iterable[float]) -> str:
    """min / median / max (n)"""
    found = list(values)
    if not found:
        return "(0)"
    middle = statistics.median(found)
    return f"{min(found):.2f} / {middle:.2f} / {max(found):.2f} ({len(found)})"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
