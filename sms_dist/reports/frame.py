"""All numbers of runs as one tidy frame, and the runs that are one experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from sms_dist.reports.runs import Run, grouped, key_of
from sms_dist.reports.table import Value

GOAL = "pruning.goal_sparsity"
# Keys that labels, titles and heads of tables name anyway.
NAMED = (
    *("data.name", "model.name", "method.name", "score", "soup.rule"),
    *("candidates.count", "candidates.count_per_phase", GOAL),
)
SECTIONS = ("data.", "model.", "pretrain.", "pruning.", "retrain.", "engine.")


def numbers(runs: Iterable[Run]) -> pd.DataFrame:
    """Return a row for each number that is known of the models of runs, on test samples.

    Columns: run, m, phase (0 for the dense model), goal (what the phase reached where the method
    has no goal), is_final, model (dense, soup, best candidate, mean candidate), metric, value.
    """
    rows = []
    for run in runs:
        reached = {phase.phase: phase.sparsity for phase in run.phases}
        last = run.final.phase if run.final else None
        for phase, model, metric, value in run.numbers():
            goal = reached.get(phase) if run.goal is None else run.goal
            rows.append((run, run.m, phase, goal, phase == last, model, metric, value))
    columns = ["run", "m", "phase", "goal", "is_final", "model", "metric", "value"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"is_final": bool, "value": float}).dropna(subset="value")


def values(frame: pd.DataFrame, *by: str) -> dict[tuple[Any, ...], Value]:
    """Return mean, standard deviation and count of each group, by its metric and `by`."""
    groups = frame.groupby(["metric", *by], sort=False, dropna=False)["value"]
    return {
        (metric, *key): Value(mean, None if count < 2 else std, int(count), metric)
        for (metric, *key), mean, std, count in groups.agg(["mean", "std", "count"]).itertuples()
    }


def differing(runs: Sequence[Run]) -> list[str]:
    """Return the keys of what runs are that do not have the same value in all of them."""
    identities = pd.DataFrame([run.identity for run in runs]).fillna("")
    return sorted(key for key in identities if identities[key].nunique() > 1)


def experiments(
    runs: Iterable[Run], names: Callable[[Run], Any], *named: str
) -> Iterator[tuple[str, list[Run]]]:
    """Yield the runs of each experiment, in the order of their names.

    With them comes what tells them from others of the same names, as "weight_decay=0.001"; NAMED
    and `named` are keys that need no words.
    """

    def is_open(key: str) -> bool:
        return key not in NAMED and key not in named

    groups = grouped(runs, names)
    for name in sorted(groups):
        keys = [key for key in differing(groups[name]) if is_open(key)]
        for own in grouped(groups[name], lambda run: key_of(run, is_open)).values():
            yield settings(own[0], keys), own


def labelled(run: Run, *words: str) -> str:
    """Return the label of a row: "SMS (uniform, m = 3)"."""
    shown = ", ".join(filter(None, (run.rule, *words)))
    return run.method.label + (f" ({shown})" if shown else "")


def settings(run: Run, keys: Sequence[str], is_brief: bool = True) -> str:
    """Return the values of some keys as "a.b=1, c=2", in brief the last words of keys only."""
    last = [key.rpartition(".")[2] for key in keys]
    words = []
    for key, word in zip(keys, last, strict=True):
        if key in run.identity:
            name = word if is_brief and last.count(word) == 1 else key
            words.append(f"{name}={run.identity[key]}")
    return ", ".join(words)
