"""The figures a report can draw, by name: a new one is one function and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sms_dist.reports.collect import Run
from sms_dist.reports.curve_points import over_epochs, over_sparsity
from sms_dist.reports.figure_shapes import Figure
from sms_dist.reports.pair_points import ood_pairs, pairs

FIGURES: dict[str, tuple[Callable[[Sequence[Run]], list[Figure]], str]] = {
    "figure_3": (pairs, "runs of sms with soup.pairs=true, or with candidates.count=2"),
    "figure_4a": (over_sparsity, "runs of sms with pruning.phases=1 at several goal sparsities"),
    "figure_4b": (
        over_epochs,
        "runs of sms and of imp_m_times with pruning.phases=1 and several retrain.epochs",
    ),
    "figure_7": (
        ood_pairs,
        "runs of sms with candidates.count=2, data.corruptions and data.corrupt_candidates=true",
    ),
}


def figures(runs: Sequence[Run]) -> tuple[dict[str, Figure], list[str]]:
    """File name -> figure, and for each figure that cannot be drawn what it needs."""
    made: dict[str, Figure] = {}
    missing = []
    for name, (build, needs) in FIGURES.items():
        found = build(runs)
        if not found:
            missing.append(f"{name.replace('_', ' ')} is not drawn: it needs {needs}")
        for number, figure in enumerate(found, 1):
            made[name if len(found) == 1 else f"{name}_{number}"] = figure
    return made, missing
