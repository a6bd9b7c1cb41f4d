"""Tables 2, 16, 17 of the paper and the general one: methods compared by their final models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from sms_dist.reports import caption, scores
from sms_dist.reports.collect import Run
from sms_dist.reports.grid import NUMBER, Value, grouped, value
from sms_dist.reports.layout import Column, Entry, Report, Row, Table, marked
from sms_dist.reports.method_facts import facts, order
from sms_dist.reports.phase_tables import TOLD, m_head
from sms_dist.reports.settings import per_setting, shared, variants

TRAINING = (
    *("bimp_sms", "bimp", "gmp_sms", "gmp", "dpf_sms", "dpf"),
    *("gsm", "dnw", "lc", "dst", "str"),
)
SCHEDULES = ("ft", "lrw", "slr", "clr", "llr", "allr")
SWA = ("retrain.swa_from", "retrain.swa_learning_rate")


def during_training(runs: Sequence[Run]) -> Report:
    """Table 2: methods x goal sparsities, score and theoretical speedup.

    As in the paper the best of several configurations of a method stands for it.
    """

    def must_agree(key: str) -> bool:
        return key.startswith(("data.", "model.")) or key == "pretrain.epochs"

    return per_setting(runs, must_agree, _during_training)


def _during_training(runs: Sequence[Run]) -> Table:
    placed = _by_goal(runs)
    goals = sorted({goal for _, goal in placed})
    methods = sorted({run.method for run in runs}, key=order)
    best = {key: _best(placed.get(key, [])) for key in product(methods, goals)}
    rows = [
        Row(facts(m).label, tuple(v for goal in goals for v in best[m, goal][0])) for m in methods
    ]
    heads = [f"Sparsity {100 * goal:g}%" for goal in goals]
    parts = (scores.score(runs[0].score).label, "speedup")
    columns = tuple(Column((head, part)) for head in heads for part in parts)
    words = ["Speedup: multiply-adds of the dense model over those of the pruned one."]
    most = max(count for _, count in best.values())
    if most > 1:
        words.append(f"The best of up to {most} configurations of a method stands for it.")
    return _table(runs, columns, marked(rows, places=3), *words)


def _by_goal(runs: Sequence[Run]) -> dict[tuple[str, float], list[list[Run]]]:
    """(method, goal) -> the seeds of each configuration.

    Where a method does not control its sparsity, its seeds' mean, to a percent, stands for a goal.
    """
    found: dict[tuple[str, float], list[list[Run]]] = {}
    for (method, goal), own in grouped(runs, _asked).items():
        for _, part in variants(own, lambda key: False):
            reached = [run.final.sparsity for run in part if run.final]
            place = goal or round(sum(reached) / len(reached), 2)
            found.setdefault((method, place), []).append(part)
    return found


def _asked(run: Run) -> tuple[str, float]:
    return run.method, run.config.pruning.goal_sparsity or 0.0


def _best(parts: Sequence[Sequence[Run]]) -> tuple[tuple[Entry, Entry], int]:
    """Score and speedup of the configuration with the best mean, and of how many it is."""
    found = [(_score(part), _speedup(part)) for part in parts]
    known = [(reached, speedup) for reached, speedup in found if reached is not None]
    if not known:
        return (None, None), 0
    return max(known, key=lambda pair: pair[0].mean), len(known)


def over_m(runs: Sequence[Run]) -> Report:
    """Table 16: IMP_mx and IMP with m phases, over m."""
    return per_setting(
        runs, shared(), lambda group: _across(group, lambda run: run.num_candidates, m_head)
    )


def over_schedules(runs: Sequence[Run]) -> Report:
    """Table 17: IMP and IMP + SWA over the schedules of retraining."""

    def place(run: Run) -> tuple[int, str]:
        name = run.config.retrain.schedule
        return SCHEDULES.index(name) if name in SCHEDULES else len(SCHEDULES), name

    free = shared("retrain.schedule", *SWA)
    return per_setting(runs, free, lambda group: _across(group, place, lambda key: key[1].upper()))


def _across(runs: Sequence[Run], column: Callable[[Run], Any], head: Callable[[Any], str]) -> Table:
    """A row per method, a column per value of something."""
    keys = sorted({column(run) for run in runs})
    told = shared(*SWA)
    rows = []
    for method, own in sorted(grouped(runs, lambda run: run.method).items(), key=_by_order):
        parts = variants(own, lambda key: told(key) or key in TOLD)
        for difference, part in parts:
            label = facts(method).label + (f" ({difference})" if difference else "")
            cells = [_score([run for run in part if column(run) == key]) for key in keys]
            rows.append(Row(label, tuple(cells)))
    return _table(runs, tuple(Column((head(key),)) for key in keys), marked(rows))


def _by_order(item: tuple[str, Any]) -> tuple[int, str]:
    return order(item[0])


def _table(
    runs: Sequence[Run], columns: tuple[Column, ...], rows: tuple[Row, ...], *words: str
) -> Table:
    table = Table(caption.title(runs[0]), (), "method", columns, rows)
    sentences = (*caption.provenance(runs), *words, caption.n_sentence(table.usual_n))
    return replace(table, caption=sentences)


def _score(runs: Sequence[Run]) -> Value | None:
    found = (run.final.soup_score for run in runs if run.final)
    return value(found, scores.form(runs[0].score)) if runs else None


def _speedup(runs: Iterable[Run]) -> Value | None:
    return value((run.final.theoretical_speedup for run in runs if run.final), NUMBER)
