"""Figures 4a and 4b: what the soup gains over its best candidate, and over IMP_mx."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from sms_dist.reports import caption, scores
from sms_dist.reports.collect import Run
from sms_dist.reports.figure_shapes import Curves, Figure, Point, agree, soups
from sms_dist.reports.grid import grouped
from sms_dist.reports.identity import key_of
from sms_dist.reports.method_facts import rule_order
from sms_dist.reports.settings import shared

GOAL = "pruning.goal_sparsity"


def over_sparsity(runs: Sequence[Run]) -> list[Figure]:
    """Figure 4a: soup minus best candidate of one-shot runs, the envelope over other settings."""
    found: list[Figure] = []
    for group in _settings(soups(_shots(runs))):
        by_rule = grouped(group, lambda run: run.rule)
        rules = sorted(by_rule, key=rule_order)
        curves = {rule: _envelope(by_rule[rule], _percent_sparsity, _over_best) for rule in rules}
        y_label = _difference("best candidate", group)
        found += _drawable(Curves(_title(group), "sparsity (%)", y_label, "soup rule", curves))
    return found


def over_epochs(runs: Sequence[Run]) -> list[Figure]:
    """Figure 4b: soup minus IMP_mx with the same settings and seed, over retraining epochs."""
    shots = _shots(runs)
    rivals = {_rival_key(run): run for run in shots if run.method == "imp_m_times"}

    def gain(run: Run) -> float | None:
        return _over_rival(run, rivals)

    found: list[Figure] = []
    for group in _settings([run for run in soups(shots) if _rival_key(run) in rivals]):
        by_sparsity = sorted(grouped(group, _percent_sparsity).items())
        curves = {f"{goal:g}%": _envelope(own, _epochs, gain) for goal, own in by_sparsity}
        rival = rf"IMP$_{{{group[0].num_candidates[0]}\times}}$"
        x_label = "retraining epochs of a candidate"
        y_label = _difference(rival, group)
        found += _drawable(Curves(_title(group), x_label, y_label, "sparsity", curves))
    return found


def _difference(rival: str, runs: Sequence[Run]) -> str:
    return f"soup \N{MINUS SIGN} {rival}\n{scores.difference(runs[0].score)}"


def _shots(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.config.pruning.phases == 1 and run.final]


def _settings(runs: Sequence[Run]) -> list[list[Run]]:
    """One figure each; goals, rules and what retraining varies may differ inside."""
    key = agree(GOAL)
    return list(grouped(runs, lambda r: (key_of(r.identity, key), r.num_candidates)).values())


def _title(runs: Sequence[Run]) -> str:
    return f"{caption.title(runs[0])}, one shot, m = {runs[0].num_candidates[0]}"


def _drawable(figure: Curves) -> list[Curves]:
    """The figure without empty curves; none if no curve has two points."""
    curves = {label: points for label, points in figure.curves.items() if points}
    if not any(len(points) > 1 for points in curves.values()):
        return []
    return [replace(figure, curves=curves)]


def _envelope(
    runs: Sequence[Run], x: Callable[[Run], float], y: Callable[[Run], float | None]
) -> list[Point]:
    """At each x the configuration with the highest mean over its seeds."""
    points = []
    for at, own in sorted(grouped(runs, x).items()):
        configurations = grouped(own, lambda run: key_of(run.identity)).values()
        found = [[d for run in part if (d := y(run)) is not None] for part in configurations]
        if best := max(filter(None, found), key=statistics.fmean, default=None):
            points.append(Point(at, statistics.fmean(best), min(best), max(best)))
    return points


def _percent_sparsity(run: Run) -> float:
    assert run.final is not None
    return round(100 * (run.config.pruning.goal_sparsity or run.final.sparsity), 6)


def _epochs(run: Run) -> float:
    return run.config.retrain.epochs


def _over_best(run: Run) -> float | None:
    assert run.final is not None
    return _points(run.final.soup_score, run.final.best_candidate, run.score)


def _over_rival(run: Run, rivals: dict[tuple[str, tuple[int, ...], int], Run]) -> float | None:
    rival = rivals[_rival_key(run)].final
    assert run.final is not None
    assert rival is not None
    return _points(run.final.soup_score, rival.soup_score, run.score)


def _rival_key(run: Run) -> tuple[str, tuple[int, ...], int]:
    return key_of(run.identity, shared()), run.num_candidates, run.config.seed


def _points(one: float | None, other: float | None, score: str) -> float | None:
    """The difference, in percentage points where they are fractions."""
    return None if one is None or other is None else scores.score(score).scale * (one - other)
