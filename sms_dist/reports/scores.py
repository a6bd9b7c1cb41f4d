"""How metrics are shown: by which name and in which unit."""

from __future__ import annotations

import math
from dataclasses import replace

from sms_dist import tasks as known
from sms_dist.tasks import Score

OOD = "ood_accuracy"  # on corrupted test samples
SEVERITY = f"{OOD}_severity_"  # of which there is one for each severity, from 1
SPARSITY, SPEEDUP = "sparsity", "speedup"  # shown beside the metrics of a soup


def score(name: str) -> Score:
    """Return the facts of a metric; an unknown one has its name as label.

    "ood_accuracy (CIFAR-10-C)" is the metric on one kind of samples.
    """
    name, bracket, kind = name.partition(" (")
    unknown = Score(name, name.replace("_", " "), scale=1.0 if name == SPEEDUP else 100.0)
    facts = known.score(name) or unknown
    return replace(facts, label=facts.label + bracket + kind)


def is_fraction(name: str) -> bool:
    return score(name).scale == 100


def number(value: float, name: str) -> str:
    """Return "58.73", in percent where the metric is a fraction; "6.1" for a speedup."""
    return f"{score(name).scale * value:.{1 if name == SPEEDUP else 2}f}"


def text(value: float | None, name: str) -> str:
    """Return "58.73%", or "25.47" for BLEU, "-" if there is no number."""
    if value is None or not math.isfinite(value):
        return "-"
    return number(value, name) + "%" * is_fraction(name)


def sentence(name: str) -> str:
    """Return "accuracy in %" or "BLEU"."""
    return score(name).label + " in %" * is_fraction(name)


def axis(name: str, unit: str = "%") -> str:
    """Return the label of an axis: "test mIoU (%)" or "test BLEU"."""
    return f"test {score(name).label}" + f" ({unit})" * is_fraction(name)
