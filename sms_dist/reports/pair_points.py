"""Figures 3, 7, 8: the soup of two candidates against the better one, by what they differ in."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sms_dist.reports import caption, scores
from sms_dist.reports.collect import Run
from sms_dist.reports.figure_shapes import Figure, Panel, Scatter, agree, soups
from sms_dist.reports.grid import grouped
from sms_dist.reports.identity import key_of
from sms_dist.reports.ood_tables import corruption_title
from sms_dist.run.schema import PhaseMetrics

HYPERPARAMETERS = {
    "seed": "random seed",
    "weight_decay": "weight decay",
    "epochs": "retraining length",
    "learning_rate": "initial learning rate",
    "schedule": "schedule",
}


def pairs(runs: Sequence[Run]) -> list[Figure]:
    """A panel per phase; a figure per setting."""
    settings = grouped(soups(runs), lambda run: key_of(run.identity, agree())).values()
    return [figure for group in settings for figure in _figure(group, group[0].score)]


def ood_pairs(runs: Sequence[Run]) -> list[Figure]:
    """The same on corrupted samples, of each kind; of runs with two candidates."""
    found: list[Figure] = []
    measured = [run for run in soups(runs) if run.corruptions]
    for group in grouped(measured, lambda r: (r.corruptions, key_of(r.identity, agree()))).values():
        for figure in _figure(group, scores.OOD):
            kind = corruption_title(group[0].corruptions)
            found.append(replace(figure, title=f"{figure.title}, {kind}"))
    return found


def _figure(runs: Sequence[Run], metric: str) -> list[Scatter]:
    """None if there is nothing to draw."""
    numbers = sorted({phase.phase for run in runs for phase in run.phases})
    panels = tuple(panel for number in numbers if (panel := _panel(runs, number, metric)).points)
    labels = sorted({label for panel in panels for label in panel.points}, key=_place)
    title, measure = caption.title(runs[0]), scores.axis(metric)
    return [Scatter(title, measure, panels, tuple(labels))] if panels else []


def _panel(runs: Sequence[Run], number: int, metric: str) -> Panel:
    points: dict[str, list[tuple[float, float]]] = {}
    sparsities = []
    for run in runs:
        for phase in run.phases:
            if phase.phase == number and (found := list(_pairs(run, phase, metric))):
                points.setdefault(_varied(run), []).extend(found)
                sparsities.append(phase.sparsity)
    title = f"sparsity {100 * statistics.fmean(sparsities):.1f}%" if sparsities else ""
    is_one_shot = all(run.config.pruning.phases == 1 for run in runs)
    return Panel(f"{title} ({'one shot' if is_one_shot else f'phase {number}'})", points)


def _place(label: str) -> tuple[int, str]:
    known = list(HYPERPARAMETERS.values())
    return known.index(label) if label in known else len(known), label


def _pairs(run: Run, phase: PhaseMetrics, metric: str) -> Iterator[tuple[float, float]]:
    """(better of two, soup of the two), in percent where they are fractions."""
    scale, own = scores.score(metric).scale, run.candidate_metrics(phase, metric)
    told = {pair.candidates: pair.test(metric) for pair in phase.pairs or ()}
    is_measured = any(found is not None for found in told.values())
    if not is_measured and len(phase.candidates) == 2 and run.rule == "uniform":
        first, second = (candidate.index for candidate in phase.candidates)
        told = {(first, second): run.soup_metric(phase, metric)}
    for (i, j), soup in told.items():
        one, other = own.get(i), own.get(j)
        if one is not None and other is not None and soup is not None:
            yield scale * max(one, other), scale * soup


def _varied(run: Run) -> str:
    """What differs between the candidates of a run, in words."""
    candidates = run.config.candidates
    keys = dict.fromkeys([*candidates.vary, *(key for o in candidates.overrides for key in o)])
    return " and ".join(HYPERPARAMETERS.get(key, key) for key in keys or ("seed",))
