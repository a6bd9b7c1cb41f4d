"""Methods over phases, goals, m or schedules: tables 1, 2, 4 to 14, 16 and 17 of the paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean
from typing import Any

from sms_dist.reports import scores
from sms_dist.reports.captions import captioned, corruption_sentence, corruption_title
from sms_dist.reports.frame import experiments, labelled, numbers, values
from sms_dist.reports.model_tables import dense_models
from sms_dist.reports.runs import BEST, MEAN, SOUP, Run, grouped, key_of
from sms_dist.reports.scores import OOD, SPARSITY, SPEEDUP
from sms_dist.reports.table import Head, Row, Table, Value, with_ranks

SCHEDULES = ("ft", "lrw", "slr", "clr", "llr", "allr")


def over_phases(runs: Sequence[Run]) -> Table:
    """Return a column per phase and m: soups, and below them their best and mean candidate."""
    return _over_sparsities(runs, runs[0].score, "phase")


def over_goals(runs: Sequence[Run]) -> Table:
    """Return a column per goal sparsity and m, of one-shot runs."""
    return _over_sparsities(runs, runs[0].score, "goal")


def on_corrupted_samples(runs: Sequence[Run]) -> Table:
    """Return OOD accuracies over phases, or over the goals of one-shot runs, dense models first."""
    kind = runs[0].corruptions
    table = _over_sparsities(
        runs, OOD, "goal" if runs[0].is_one_shot else "phase", corruption_sentence(kind)
    )
    dense = [value for models in dense_models(runs) if (value := models.value(OOD))]
    above = [Row("dense", (v,) * len(table.columns), is_spanning=True) for v in dense]
    title = f"{table.title}, {corruption_title(kind)}"
    return replace(table, title=title, rows=(*above, *table.rows))


def _over_sparsities(runs: Sequence[Run], metric: str, outer: str, *sentences: str) -> Table:
    """Return a column for each value of `outer`, a column of the tidy frame, and m."""
    frame = numbers(runs)
    reached = frame[frame["metric"] == SPARSITY].groupby(outer)["value"].mean()
    by_m = sorted(runs, key=lambda run: run.num_candidates)
    ms = list(dict.fromkeys(run.m for run in by_m if run.m)) or [""]
    columns: list[Head] = []
    for (key, sparsity), m in product(reached.items(), ms):
        kind = "one shot" if outer == "goal" else f"phase {key}"
        columns.append((f"Sparsity {100 * sparsity:.1f}% ({kind})", *filter(None, [m])))
    rows = []
    for difference, own in experiments(runs, lambda run: run.place):
        label, has_m = labelled(own[0], difference), bool(own[0].m)
        known = values(frame[frame["run"].isin(own)], "model", outer, "m")
        for model in (SOUP, BEST, MEAN) if own[0].method.has_rule else (SOUP,):
            keys = product([metric], [model], reached.index, [m if has_m else "" for m in ms])
            entries = tuple(known.get(key) for key in keys)
            if model == SOUP:
                rows.append(Row(label, entries, is_spanning=not has_m))
            elif any(entries):
                rows.append(Row(model, entries, parent=label))
    if any(row.label == BEST for row in rows):
        best = "The best candidate is the best on the test set: nobody can pick it in practice."
        sentences = (best, *sentences)
    goal = f", goal {100 * (runs[0].goal or 0):g}%" if outer == "phase" else ""
    return captioned(
        runs,
        columns,
        with_ranks(rows),
        *sentences,
        stub=f"{scores.score(metric).label} of",
        title=runs[0].title + goal,
        measure=f"Test {scores.sentence(metric)}",
    )


def during_training(runs: Sequence[Run]) -> Table:
    """Return score and speedup over goal sparsities: table 2.

    As in the paper the best of several configurations of a method stands for it. Where a method
    does not control its sparsity, its seeds' mean, to a percent, stands for a goal.
    """
    score = runs[0].score
    configurations: dict[tuple[str, float], list[dict[Any, Value]]] = {}
    for own in grouped(runs, key_of).values():
        goal = own[0].goal or round(fmean(run.final.sparsity for run in own if run.final), 2)
        known = _finals(own)
        if (score, SOUP) in known:
            configurations.setdefault((own[0].method.label, goal), []).append(known)
    best = {
        key: max(each, key=lambda known: known[score, SOUP].mean)
        for key, each in configurations.items()
    }
    columns = list(product(sorted({goal for _, goal in best}), (score, SPEEDUP)))
    rows = []
    for label in dict.fromkeys(run.method.label for run in sorted(runs, key=lambda r: r.place)):
        entries = [best.get((label, goal), {}).get((metric, SOUP)) for goal, metric in columns]
        rows.append(Row(label, tuple(entries)))
    heads = [(f"Sparsity {100 * goal:g}%", scores.score(metric).label) for goal, metric in columns]
    sentences = ["Speedup: multiply-adds of the dense model over those of the pruned one."]
    most = max(map(len, configurations.values()))
    if most > 1:
        sentences.append(f"The best of up to {most} configurations of a method stands for it.")
    return captioned(runs, heads, with_ranks(rows, places=3), *sentences)


def over_m(runs: Sequence[Run]) -> Table:
    """Return final models over m: table 16."""
    return _over(runs, lambda run: (run.num_candidates, run.m))


def over_schedules(runs: Sequence[Run]) -> Table:
    """Return final models over the schedules of retraining: table 17."""

    def column(run: Run) -> tuple[int, str]:
        name = run.config.retrain.schedule
        place = SCHEDULES.index(name) if name in SCHEDULES else len(SCHEDULES)
        return place, name.upper()

    return _over(runs, column, "retrain.schedule")


def _over(runs: Sequence[Run], column: Callable[[Run], tuple[Any, str]], *named: str) -> Table:
    """Return a row per method and a column for each place and head that `column` returns."""
    columns, rows = sorted({column(run) for run in runs}), []
    for difference, own in experiments(runs, lambda run: run.place, *named):
        parts = [_finals([run for run in own if column(run) == key]) for key in columns]
        entries = tuple(known.get((runs[0].score, SOUP)) for known in parts)
        rows.append(Row(labelled(own[0], difference), entries))
    return captioned(runs, [(head,) for _, head in columns], with_ranks(rows))


def _finals(runs: Sequence[Run]) -> dict[tuple[Any, ...], Value]:
    frame = numbers(runs)
    return values(frame[frame["is_final"]], "model")
