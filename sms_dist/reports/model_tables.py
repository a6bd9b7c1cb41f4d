"""Final models side by side: the general table, robustness, corruptions, sub-groups (table 15)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sms_dist.reports import scores
from sms_dist.reports.captions import captioned, corruption_sentence, corruption_title
from sms_dist.reports.frame import experiments, labelled, numbers, values
from sms_dist.reports.runs import DENSE, SOUP, Run, grouped
from sms_dist.reports.scores import OOD, SEVERITY, SPARSITY, SPEEDUP
from sms_dist.reports.table import Entry, Head, Row, Table, Value, ranked, with_ranks

METRICS = (
    *("top5_accuracy", "ece", "worst_class_accuracy", "worst_class_iou"),
    "worst_subgroup_recall",
)
RECALL, BALANCED = "recall_", "balanced_subgroup_recall"
DENSE_SENTENCE = "Dense: the models that the runs began with."


@dataclass(frozen=True)
class Models:
    """The models of several seeds that are one row: final ones, or those that runs began with."""

    label: str
    runs: Sequence[Run]
    is_dense: bool = False

    @property
    def goal(self) -> float | None:
        """Models of the same goal are compared; None: it has none."""
        return 0.0 if self.is_dense else self.runs[0].goal

    @cached_property
    def known(self) -> dict[str, Value]:
        """Metric -> value over the seeds."""
        frame = numbers(self.runs)
        rows = frame["model"] == DENSE if self.is_dense else frame["is_final"]
        model = DENSE if self.is_dense else SOUP
        return {
            metric: v for (metric, of), v in values(frame[rows], "model").items() if of == model
        }

    def value(self, metric: str) -> Value | None:
        return self.known.get(metric)

    @property
    def sparsity(self) -> str | None:
        """The realised sparsity, with its deviation where seeds differ."""
        if self.is_dense:
            return "0%"
        value = self.value(SPARSITY)
        if value is None:
            return None
        return " ± ".join(value.texts() if value.std else value.texts()[:1]) + "%"


def dense_models(runs: Sequence[Run]) -> list[Models]:
    """Return the dense models, one for each seed: runs of several methods begin with the same."""
    by_seed = grouped([run for run in runs if run.dense.is_trained], lambda run: run.config.seed)
    most = [
        max(own, key=lambda run: (DENSE in run.ood, len(run.dense.tested)))
        for own in by_seed.values()
    ]
    return [Models("dense", most, is_dense=True)] if most else []


def final_models(runs: Sequence[Run]) -> list[Models]:
    """Return the models of runs with the same dense models: those, then others by goal, method."""
    models, pruned = dense_models(runs), [run for run in runs if run.final]
    for difference, own in experiments(pruned, lambda run: (*run.by_goal, run.num_candidates)):
        models.append(Models(labelled(own[0], own[0].m, difference), own))
    return models


def _compared(
    runs: Sequence[Run], models: Sequence[Models], columns: Mapping[Head, str], *sentences: str
) -> Table:
    """Return a row for each of the models, a column for each metric, ranked by goal."""
    rows: list[Row] = []
    for rivals in grouped(models, lambda each: each.goal).values():
        own = [Row(m.label, (m.sparsity, *map(m.value, columns.values()))) for m in rivals]
        rows += with_ranks(own)
    plain = [", ".join(h) for h, metric in columns.items() if not scores.is_fraction(metric)]
    measure = "Of test samples, in %" + (f" but for {', '.join(plain)}" if plain else "")
    heads = [("sparsity",), *columns]
    return captioned(runs, heads, rows, DENSE_SENTENCE, *sentences, measure=measure)


def robustness(runs: Sequence[Run]) -> Table:
    """Return how far models can be relied on: calibration, worst classes, corrupted samples."""
    measured = [runs[0].score, *METRICS]
    models = [m for m in final_models(runs) if any(map(m.value, measured))]
    kinds = sorted({run.corruptions for run in runs if run.corruptions})
    measured += [f"{OOD} ({kind})" for kind in kinds]
    metrics = [name for name in measured if any(m.value(name) for m in models)]
    sentences = []
    if "ece" in metrics:
        sentences.append("ECE: expected calibration error, the smaller the better.")
    if any(name.startswith("worst_") for name in metrics):
        sentences.append("Worst class and worst sub-group: each model's own.")
    columns: dict[Head, str] = {(scores.score(name).label,): name for name in metrics}
    return _compared(runs, models, columns, *sentences, *map(corruption_sentence, kinds))


def subgroups(run: Run) -> list[str]:
    """Return the sub-groups whose recall was measured."""
    model = run.final.soup if run.final else run.dense
    return [name.removeprefix(RECALL) for name in model.tested if name.startswith(RECALL)]


def by_subgroup(runs: Sequence[Run]) -> Table:
    """Return what pruning does to sub-groups: table 15 of the paper."""
    names = dict.fromkeys(name for run in runs for name in subgroups(run))
    columns: dict[Head, str] = {("top-1 accuracy",): "accuracy", ("balanced accuracy",): BALANCED}
    columns |= {("sub-group recall", name): RECALL + name for name in names}
    models = [each for each in final_models(runs) if each.value(BALANCED)]
    sentence = "Balanced accuracy: the mean over the sub-groups of their recall."
    return _compared(runs, models, columns, sentence)


def by_corruption(runs: Sequence[Run]) -> Table:
    """Return accuracies by severity and corruption, dense and final models side by side."""
    models, kind = [m for m in final_models(runs) if m.value(OOD)], runs[0].corruptions
    metrics = [name for m in models for name in m.known if name.startswith(f"{OOD}_")]
    metrics.sort(key=lambda name: not name.startswith(SEVERITY))
    rows = []
    for name in dict.fromkeys([OOD, *metrics]):
        rivals = grouped(models, lambda each: each.goal).values()
        entries = [e for group in rivals for e in ranked([m.value(name) for m in group])]
        label = name.removeprefix(OOD).lstrip("_").replace("_", " ") or "all"
        rows.append(Row(label, tuple(entries), "all" * name.startswith(SEVERITY)))
    heads = [(m.label,) if m.is_dense else (f"Sparsity {m.sparsity}", m.label) for m in models]
    return captioned(
        runs,
        heads,
        rows,
        *("Each corruption: the mean of its severities.", corruption_sentence(kind)),
        stub="corruption",
        title=f"{runs[0].title}, {corruption_title(kind)}",
        measure="Test accuracy in %",
    )


def overview(runs: Sequence[Run]) -> Table:
    """Return a row per data, model, method, soup rule, m and goal; more where other keys differ."""

    def names(run: Run) -> tuple[Any, ...]:
        return run.data, run.config.model.name, *run.by_goal, run.num_candidates

    label = scores.score(runs[0].score).label
    rows: dict[tuple[Any, ...], list[tuple[str, dict[str, Entry]]]] = {}
    for difference, own in experiments(runs, names):
        models = Models("", own, is_dense=not own[0].final)
        entries: dict[str, Entry] = {
            "data": own[0].data,
            "model": own[0].config.model.name,
            "m": own[0].m.removeprefix("m = ") or None,
            "sparsity": None if models.is_dense else models.sparsity,
            "surviving": _surviving(own),
            label: models.value(own[0].score),
            "speedup": models.value(SPEEDUP),
            **_epochs(own[0]),
            "settings": difference or None,
        }
        rows.setdefault(names(own[0])[:4], []).append((labelled(own[0]), entries))
    for rivals in rows.values():
        best = ranked([entries[label] for _, entries in rivals])
        for (_, entries), value in zip(rivals, best, strict=True):
            entries[label] = value
    every = [row for rivals in rows.values() for row in rivals]
    columns = [name for name in every[0][1] if any(entries[name] for _, entries in every)]
    for name in ("data", "model"):
        if len({entries[name] for _, entries in every}) == 1:
            columns.remove(name)
    titles = {run.title for run in runs}
    return captioned(
        runs,
        [tuple(name.split(", ")) for name in columns],
        [Row(name, tuple(map(entries.get, columns))) for name, entries in every],
        "Surviving: prunable weights, exactly.",
        "Epochs: dense, those of a candidate in all its phases, those of all candidates and dense.",
        title=titles.pop() if len(titles) == 1 else "methods",
    )


def _surviving(runs: Sequence[Run]) -> str | None:
    """Return "250 / 1,000", the fewest and the most where seeds differ."""
    finals = [run.final for run in runs if run.final]
    counts = [phase.surviving_weights for phase in finals if phase.surviving_weights is not None]
    if not counts or finals[0].num_weights is None:
        return None
    extremes = "-".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))
    return f"{extremes} / {finals[0].num_weights:,}"


def _epochs(run: Run) -> dict[str, Entry]:
    """Return the budget of one run; None where the journal does not have all of it."""
    phases = [run.retrain_epochs.get(phase.phase, ()) for phase in run.phases]
    each = sum(max(epochs, default=0) for epochs in phases)
    total = run.dense_epochs + sum(map(sum, phases))
    return {
        "epochs, dense": str(run.dense_epochs),
        "epochs, candidate": str(each) if all(phases) else None,
        "epochs, all": str(total) if all(phases) else None,
    }
