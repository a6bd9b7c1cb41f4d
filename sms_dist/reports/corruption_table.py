"""Accuracy by corruption and by severity: dense and final models side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from sms_dist.reports import caption, scores
from sms_dist.reports.collect import Run
from sms_dist.reports.final_models import Models, dense_keys, final_models
from sms_dist.reports.grid import Value, grouped, placed, value
from sms_dist.reports.layout import Column, Report, Row, Table
from sms_dist.reports.ood_tables import corruption_title, corruption_words
from sms_dist.reports.settings import apart, per_setting
from sms_dist.run.schema import OodMetrics

ALL = "all"
Of = Callable[[OodMetrics], float | None]


def by_corruption(runs: Sequence[Run]) -> Report:
    """A row per severity and per corruption; a table for each kind of corruptions and setting."""
    return apart(
        runs, lambda run: run.corruptions, lambda group: per_setting(group, dense_keys, _table)
    )


def _table(runs: Sequence[Run]) -> Table:
    models = [row for row in final_models(runs) if row.metric(scores.OOD)]
    kind = runs[0].corruptions
    table = Table(
        f"{caption.title(runs[0])}, {corruption_title(kind)}",
        (),
        "corruption",
        tuple(Column(_head(row)) for row in models),
        tuple(_row(label, of, models) for label, of in _lines(models).items()),
    )
    words = caption.provenance(runs, "Test accuracy in %")
    told = ("Each corruption: the mean of its severities.", corruption_words(kind))
    return replace(table, caption=(*words, *told, caption.n_sentence(table.usual_n)))


def _head(models: Models) -> tuple[str, ...]:
    if models.is_dense:
        return (models.label,)
    return f"Sparsity {models.sparsity}", models.label


def _lines(models: Sequence[Models]) -> dict[str, Of]:
    """Label -> number."""
    found = [result for row in models for run in row.runs if (result := _result(row, run))]
    severities = range(max(len(own) for one in found for own in one.accuracies.values()))
    names = dict.fromkeys(name for one in found for name in one.accuracies)
    return {
        ALL: lambda result: result.ood_accuracy,
        **{f"severity {s + 1}": _of_severity(s) for s in severities},
        **{name: _of_corruption(name) for name in names},
    }


def _of_severity(index: int) -> Of:
    return lambda result: _mean([own[index] for own in result.accuracies.values() if own[index:]])


def _of_corruption(name: str) -> Of:
    return lambda result: _mean(result.accuracies.get(name, ()))


def _mean(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return statistics.fmean(known) if known else None


def _row(label: str, of: Of, models: Sequence[Models]) -> Row:
    """The best of models of the same goal is marked."""
    entries = [
        entry
        for rivals in grouped(models, lambda row: row.goal).values()
        for entry in placed([_value(row, of) for row in rivals])
    ]
    parent = ALL if label.startswith("severity ") else ""
    return Row(label.replace("_", " "), tuple(entries), parent)


def _value(models: Models, of: Of) -> Value | None:
    found = [_result(models, run) for run in models.runs]
    return value(of(result) for result in found if result)


def _result(models: Models, run: Run) -> OodMetrics | None:
    last = 0 if models.is_dense or not run.final else run.final.phase
    return run.ood.get(f"phase_{last}/soup" if last else "dense")
