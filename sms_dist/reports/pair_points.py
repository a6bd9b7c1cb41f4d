"""Figure 3: the soup of two candidates against the better one, by what varied between them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from sms_dist.reports import caption, scores
from sms_dist.reports.collect import Run
from sms_dist.reports.figure_shapes import Figure, Panel, Scatter, agree, soups
from sms_dist.reports.grid import grouped
from sms_dist.reports.identity import key_of
from sms_dist.reports.told import PhaseResult

HYPERPARAMETERS = {
    "seed": "random seed",
    "weight_decay": "weight decay",
    "epochs": "retraining length",
    "learning_rate": "initial learning rate",
    "schedule": "schedule",
}


def pairs(runs: Sequence[Run]) -> list[Figure]:
    """A panel per phase; a figure per setting."""
    found: list[Figure] = []
    for group in grouped(soups(runs), lambda run: key_of(run.identity, agree())).values():
        numbers = sorted({phase.phase for run in group for phase in run.phases})
        panels = tuple(panel for number in numbers if (panel := _panel(group, number)).points)
        if panels:
            labels = {label for panel in panels for label in panel.points}
            title, measure = caption.title(group[0]), scores.axis(group[0].score)
            found.append(Scatter(title, measure, panels, tuple(sorted(labels, key=_place))))
    return found


def _panel(runs: Sequence[Run], number: int) -> Panel:
    points: dict[str, list[tuple[float, float]]] = {}
    sparsities = []
    for run in runs:
        for phase in run.phases:
            if phase.phase == number and (found := list(_pairs(run, phase))):
                points.setdefault(_varied(run), []).extend(found)
                sparsities.append(phase.sparsity)
    title = f"sparsity {100 * statistics.fmean(sparsities):.1f}%" if sparsities else ""
    is_one_shot = all(run.config.pruning.phases == 1 for run in runs)
    return Panel(f"{title} ({'one shot' if is_one_shot else f'phase {number}'})", points)


def _place(label: str) -> tuple[int, str]:
    known = list(HYPERPARAMETERS.values())
    return known.index(label) if label in known else len(known), label


def _pairs(run: Run, phase: PhaseResult) -> Iterator[tuple[float, float]]:
    """(better of two, soup of the two), in percent where they are fractions."""
    of, scale = phase.score, scores.score(phase.score).scale
    own = {item.index: item.test(of) for item in phase.candidates}
    told = {pair.candidates: pair.test(of) for pair in phase.pairs or ()}
    if not told and len(own) == 2 and run.rule == "uniform":
        first, second = own
        told = {(first, second): phase.soup_score}
    for (i, j), soup in told.items():
        one, other = own.get(i), own.get(j)
        if one is not None and other is not None and soup is not None:
            yield scale * max(one, other), scale * soup


def _varied(run: Run) -> str:
    """What differs between the candidates of a run, in words."""
    candidates = run.config.candidates
    keys = dict.fromkeys([*candidates.vary, *(key for o in candidates.overrides for key in o)])
    return " and ".join(HYPERPARAMETERS.get(key, key) for key in keys or ("seed",))
