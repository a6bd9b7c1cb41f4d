"""How far final models can be relied on: calibration, worst classes, corrupted samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sms_dist.reports import caption, scores
from sms_dist.reports.collect import Run
from sms_dist.reports.final_models import Models, dense_keys, final_models, with_places
from sms_dist.reports.grid import Value
from sms_dist.reports.layout import Column, Report, Row, Table
from sms_dist.reports.ood_tables import corruption_words
from sms_dist.reports.settings import per_setting

METRICS = (
    *("top5_accuracy", "ece", "worst_class_accuracy", "worst_class_iou"),
    "worst_subgroup_recall",
)
CALIBRATION = "ECE: expected calibration error, the smaller the better."
WORST = "Worst class and worst sub-group: each model's own."


@dataclass(frozen=True)
class Measure:
    """A column; OOD accuracies on different corruptions are different measures."""

    metric: str
    corruptions: str = ""

    @property
    def head(self) -> str:
        label = scores.score(self.metric).label
        return f"{label} ({self.corruptions})" if self.corruptions else label

    def of(self, models: Models) -> Value | None:
        if not self.corruptions:
            return models.metric(self.metric)
        own = [run for run in models.runs if run.corruptions == self.corruptions]
        return replace(models, runs=own).metric(self.metric)


def overview(runs: Sequence[Run]) -> Report:
    """A row for the dense models and for each experiment; a table for each data set and model."""
    return per_setting(runs, dense_keys, _table)


def _table(runs: Sequence[Run]) -> Table:
    kinds = sorted({run.corruptions for run in runs if run.corruptions})
    plain = [Measure(name) for name in (runs[0].score, *METRICS)]
    models = [row for row in final_models(runs) if any(measure.of(row) for measure in plain)]
    measures = [
        measure
        for measure in (*plain, *(Measure(scores.OOD, kind) for kind in kinds))
        if any(measure.of(row) for row in models)
    ]
    found = [
        (row, Row(row.label, (row.sparsity, *(measure.of(row) for measure in measures))))
        for row in models
    ]
    columns = tuple(Column((head,)) for head in ("sparsity", *(m.head for m in measures)))
    table = Table(caption.title(runs[0]), (), "method", columns, with_places(found))
    told = _words({measure.metric for measure in measures}, runs)
    words = caption.provenance(runs, f"Of test samples, {_units(measures)}")
    return replace(table, caption=(*words, *told, caption.n_sentence(table.usual_n)))


def _units(measures: Sequence[Measure]) -> str:
    """Which numbers are in %."""
    plain = [m.head for m in measures if not scores.is_fraction(m.metric)]
    return "in %" + (f" but for {', '.join(plain)}" if plain else "")


def _words(metrics: set[str], runs: Sequence[Run]) -> list[str]:
    words = ["Dense: the models that the runs began with."]
    if "ece" in metrics:
        words.append(CALIBRATION)
    if any(metric.startswith("worst_") for metric in metrics):
        words.append(WORST)
    return words + [corruption_words(kind) for kind in _kinds(runs)]


def _kinds(runs: Sequence[Run]) -> list[str]:
    return sorted({run.corruptions for run in runs if run.corruptions})
