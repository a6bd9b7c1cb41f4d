"""The table of one run: a row per phase with the scores of soup, candidates, dense model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from sms_dist.reports import scores
from sms_dist.reports.divergence import divergences
from sms_dist.reports.summary import is_trained


def run_table(summary: Mapping[str, Any]) -> Table:
    """The phases of a summary.json; the best of the pruned models in a row is bold.

    A run with one candidate per phase has no soup to compare: one column with the method's name.
    The ensemble is no single model and so out of the contest.
    """
    phases = summary.get("phases") or []
    if not phases:
        return _dense_table(summary)
    score = _score(summary)
    columns = _columns(summary["method"], phases)
    has_ensemble = len(columns) > 1 and any(_nested(phase, "ensemble", score) for phase in phases)
    has_dense = is_trained(summary.get("dense") or {})
    others = ["ensemble"] * has_ensemble + ["dense"] * has_dense
    table = _table(summary, phases)
    for name in ("phase", "sparsity", *columns, *others):
        table.add_column(name, justify="right")  # a head wraps where the terminal is narrow
    for phase in phases:
        pruned = [_soup_or_candidates(phase, key, score) for key in columns.values()]
        sources = {"ensemble": phase, "dense": summary}
        table.add_row(
            str(phase["phase"]),
            f"{phase['sparsity']:.2%}",
            *_marked(pruned, score),
            *(scores.text(_nested(sources[name], name, score), score) for name in others),
        )
    return table


def _score(summary: Mapping[str, Any]) -> str:
    return str(summary.get("score", scores.BEFORE))


def _dense_table(summary: Mapping[str, Any]) -> Table:
    table = _table(summary, [])
    table.add_column("dense", justify="right")
    score = _score(summary)
    table.add_row(scores.text(_nested(summary, "dense", score), score))
    return table


def _table(summary: Mapping[str, Any], phases: Sequence[Mapping[str, Any]]) -> Table:
    label = scores.score(_score(summary)).label
    title = f"test {label}, {summary['method']}, seed {summary['seed']}"
    return Table(title=Text(title, style="bold"), caption=_caption(phases), caption_justify="left")


def _columns(method: str, phases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Column name -> key in a phase."""
    if all(len(phase["candidates"]) == 1 for phase in phases):
        return {method: "soup"}  # of one candidate: that candidate
    keys = ("soup", "best_candidate", "mean_candidate")
    return {key.replace("_", " "): key for key in keys}


def _soup_or_candidates(phase: Mapping[str, Any], key: str, score: str) -> float | None:
    return _nested(phase, key, score) if key == "soup" else phase.get(key)


def _nested(values: Mapping[str, Any], key: str, score: str) -> float | None:
    metrics = values.get(key) or {}
    found: float | None = metrics.get(f"test_{score}")
    return found


def _marked(values: Sequence[float | None], score: str) -> list[Text]:
    """The best (ties: all that look the same) in bold, where there is something to compare."""
    texts = [scores.text(value, score) for value in values]
    known = [value for value in values if value is not None and math.isfinite(value)]
    best = scores.text(max(known), score) if len(known) > 1 else None
    return [Text(text, style="bold" if text == best else "") for text in texts]


def _caption(phases: Sequence[Mapping[str, Any]]) -> Text | None:
    """The candidates that diverged, one in a line, and the warnings of the phases."""
    lines = [line for phase in phases for line in divergences(phase)]
    for phase in phases:
        lines += phase.get("warnings") or ()
    return Text("\n".join(lines)) if lines else None
