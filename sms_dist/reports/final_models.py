"""Rows of tables over several metrics: the dense models, then each experiment by sparsity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sms_dist.reports import scores
from sms_dist.reports.collect import Run
from sms_dist.reports.grid import Value, grouped, value
from sms_dist.reports.layout import Entry, Row, marked
from sms_dist.reports.method_facts import facts, order, rule_order
from sms_dist.reports.overview import sparsity
from sms_dist.reports.phase_tables import m_head
from sms_dist.reports.settings import variants

TOLD = (
    *("data.name", "model.name", "method.name", "score", "soup.rule"),
    *("candidates.count", "candidates.count_per_phase", "pruning.goal_sparsity"),
)
# What the dense models of a table have in common: pruning and retraining come later.
DENSE_KEYS = ("data.", "model.", "pretrain.")


@dataclass(frozen=True)
class Models:
    """The models of several seeds that are one row: final ones, or those that runs began with."""

    label: str
    runs: Sequence[Run]
    is_dense: bool = False

    @property
    def goal(self) -> float | None:
        """Models of the same goal are compared; None: it has none."""
        return 0.0 if self.is_dense else self.runs[0].config.pruning.goal_sparsity

    @property
    def sparsity(self) -> Entry:
        """As realised."""
        if self.is_dense:
            return "0%"
        return sparsity([run.final for run in self.runs if run.final])

    def metric(self, name: str) -> Value | None:
        """Of the runs that measured it."""
        return value((self._number(run, name) for run in self.runs), scores.form(name))

    def _number(self, run: Run, name: str) -> float | None:
        if self.is_dense:
            return run.dense_metric(name)
        return run.soup_metric(run.final, name) if run.final else None


def dense_keys(key: str) -> bool:
    return key.startswith(DENSE_KEYS)


def final_models(runs: Sequence[Run]) -> list[Models]:
    """Of runs that share their dense models; those first, then by goal and method."""
    pruned = [run for run in runs if run.final]
    return [*_dense(runs), *_experiments(pruned)]


def with_places(rows: Sequence[tuple[Models, Row]]) -> tuple[Row, ...]:
    """The rows with the best of each column among models of the same goal marked."""
    groups = grouped(rows, lambda pair: pair[0].goal).values()
    return tuple(row for group in groups for row in marked([row for _, row in group]))


def _dense(runs: Sequence[Run]) -> Iterator[Models]:
    """One for each seed: runs of several methods begin with the same one."""
    by_seed = grouped([run for run in runs if run.dense.is_trained], lambda run: run.config.seed)
    if by_seed:
        yield Models("dense", [max(own, key=_num_measured) for own in by_seed.values()], True)


def _num_measured(run: Run) -> tuple[bool, int]:
    return "dense" in run.ood, len(run.dense.tested)


def _experiments(runs: Sequence[Run]) -> Iterator[Models]:
    named = grouped(runs, _place)
    for key in sorted(named):
        for difference, part in variants(named[key], TOLD.__contains__):
            yield Models(_label(part[0], difference), part)


def _place(run: Run) -> tuple[Any, ...]:
    """What parts experiments, in the order of the rows; methods without a goal come last."""
    goal = run.config.pruning.goal_sparsity
    return goal is None, goal or 0.0, order(run.method), rule_order(run.rule), run.num_candidates


def _label(run: Run, difference: str) -> str:
    """SMS (uniform, m = 3)."""
    words = [word for word in (run.rule, m_head(run.num_candidates), difference) if word]
    label = facts(run.method).label
    return f"{label} ({', '.join(words)})" if words else label
