"""How a metric is shown: by which name, in which unit, whether larger is better."""

from __future__ import annotations

import math

from sms_dist import tasks as known
from sms_dist.reports.grid import Form
from sms_dist.tasks import Score

OOD = "ood_accuracy"  # on corrupted test samples


def score(name: str) -> Score:
    """What is known of it; of a metric that nobody knows, its name."""
    return known.score(name) or Score(name, name.replace("_", " "))


def form(name: str) -> Form:
    found = score(name)
    return Form(found.scale, 2, found.larger_is_better)


def is_fraction(name: str) -> bool:
    return score(name).scale == 100


def text(value: float | None, name: str) -> str:
    """58.73% or 25.47 (BLEU), "-" if there is no number."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{score(name).scale * value:.2f}" + "%" * is_fraction(name)


def sentence(name: str) -> str:
    """Accuracy in %; BLEU."""
    label = score(name).label
    return label + " in %" * is_fraction(name)


def axis(name: str) -> str:
    """test mIoU (%); test BLEU."""
    return f"test {score(name).label}" + " (%)" * is_fraction(name)


def difference(name: str) -> str:
    """test mIoU (percentage points); test BLEU."""
    return f"test {score(name).label}" + " (percentage points)" * is_fraction(name)
