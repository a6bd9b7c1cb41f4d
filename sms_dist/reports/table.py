"""The table of one run: a row per phase with the accuracies of soup, candidates, dense model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def run_table(summary: Mapping[str, Any]) -> Table:
    """The phases of a summary.json; the best of the pruned models in a row is bold.

    A run with one candidate per phase has no soup to compare: one column with the method's name.
    The ensemble is no single model and so out of the contest.
    """
    phases = summary.get("phases") or []
    if not phases:
        return _dense_table(summary)
    columns = _columns(summary["method"], phases)
    has_ensemble = len(columns) > 1 and any(_nested(phase, "ensemble") for phase in phases)
    has_dense = _is_fully_trained(summary.get("dense") or {})
    others = ["ensemble"] * has_ensemble + ["dense"] * has_dense
    table = _table(summary, phases)
    for name in ("phase", "sparsity", *columns, *others):
        table.add_column(name, justify="right")  # a head wraps where the terminal is narrow
    for phase in phases:
        pruned = [_accuracy(phase, key) for key in columns.values()]
        sources = {"ensemble": phase, "dense": summary}
        table.add_row(
            str(phase["phase"]),
            percent(phase["sparsity"]),
            *_marked(pruned),
            *(percent(_nested(sources[name], name)) for name in others),
        )
    return table


def _is_fully_trained(dense: Mapping[str, Any]) -> bool:
    """False where a method pruned before dense training had come to its end."""
    trained, total = dense.get("epochs_trained"), dense.get("epochs_total")
    return trained is None or total is None or trained >= total


def percent(value: float | None) -> str:
    """A fraction as percent with two decimals, "-" if there is none."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.2f}%"


def _dense_table(summary: Mapping[str, Any]) -> Table:
    table = _table(summary, [])
    table.add_column("dense", justify="right")
    table.add_row(percent(_nested(summary, "dense")))
    return table


def _table(summary: Mapping[str, Any], phases: Sequence[Mapping[str, Any]]) -> Table:
    title = f"test accuracy, {summary['method']}, seed {summary['seed']}"
    return Table(title=Text(title, style="bold"), caption=_caption(phases), caption_justify="left")


def _columns(method: str, phases: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Column name -> key in a phase."""
    if all(len(phase["candidates"]) == 1 for phase in phases):
        return {method: "soup"}  # of one candidate: that candidate
    keys = ("soup", "best_candidate", "mean_candidate")
    return {key.replace("_", " "): key for key in keys}


def _accuracy(phase: Mapping[str, Any], key: str) -> float | None:
    return _nested(phase, key) if key == "soup" else phase.get(key)


def _nested(values: Mapping[str, Any], key: str) -> float | None:
    metrics = values.get(key) or {}
    accuracy: float | None = metrics.get("test_accuracy")
    return accuracy


def _marked(values: Sequence[float | None]) -> list[Text]:
    """The best (ties: all that look the same) in bold, where there is something to compare."""
    texts = [percent(value) for value in values]
    known = [value for value in values if value is not None and math.isfinite(value)]
    best = percent(max(known)) if len(known) > 1 else None
    return [Text(text, style="bold" if text == best else "") for text in texts]


def _caption(phases: Sequence[Mapping[str, Any]]) -> Text | None:
    """The candidates that diverged, by name, and the warnings of the phases."""
    diverged = [
        f"candidate {candidate['index']} of phase {phase['phase']} (seed {candidate['seed']})"
        for phase in phases
        for candidate in phase["candidates"]
        if candidate.get("diverged")
    ]
    lines = [f"diverged: {', '.join(diverged)}"] if diverged else []
    for phase in phases:
        lines += [f"phase {phase['phase']}: {text}" for text in phase.get("warnings") or ()]
    return Text("\n".join(lines)) if lines else None
