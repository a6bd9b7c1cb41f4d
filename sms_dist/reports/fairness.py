"""Table 15 of the paper: what pruning does to sub-groups, for each method and sparsity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from sms_dist.reports import caption
from sms_dist.reports.collect import Run
from sms_dist.reports.final_models import Models, dense_keys, final_models, with_places
from sms_dist.reports.layout import Column, Report, Row, Table
from sms_dist.reports.settings import apart, per_setting

RECALL, BALANCED = "recall_", "balanced_subgroup_recall"
WORDS = (
    "Dense: the models that the runs began with.",
    "Balanced accuracy: the mean over the sub-groups of their recall.",
)


def subgroups(run: Run) -> tuple[str, ...]:
    """Those whose recall was measured."""
    found = run.final.soup if run.final else run.dense
    return tuple(m.removeprefix(RECALL) for m in found.tested if m.startswith(RECALL))


def by_subgroup(runs: Sequence[Run]) -> Report:
    """A table for each definition of sub-groups."""
    return apart(runs, _definition, lambda group: per_setting(group, dense_keys, _table))


def _definition(run: Run) -> str:
    return json.dumps([run.config.data.subgroup, run.config.data.subgroups], sort_keys=True)


def _table(runs: Sequence[Run]) -> Table:
    names = list(dict.fromkeys(name for run in runs for name in subgroups(run)))
    measures: dict[tuple[str, ...], str] = {
        ("top-1 accuracy",): "accuracy",
        ("balanced accuracy",): BALANCED,
        **{("sub-group recall", name): RECALL + name for name in names},
    }
    found = [models for models in final_models(runs) if models.metric(BALANCED)]
    rows = with_places([(models, _row(models, list(measures.values()))) for models in found])
    columns = tuple(Column(head) for head in (("sparsity",), *measures))
    table = Table(caption.title(runs[0]), (), "method", columns, rows)
    words = caption.provenance(runs, "Of test samples, in %")
    return replace(table, caption=(*words, *WORDS, caption.n_sentence(table.usual_n)))


def _row(models: Models, metrics: Sequence[str]) -> Row:
    return Row(models.label, (models.sparsity, *map(models.metric, metrics)))
