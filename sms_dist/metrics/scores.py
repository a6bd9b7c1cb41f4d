"""What is known of each metric by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    name: str
    label: str
    larger_is_better: bool = True
    scale: float = 100.0


SCORES = {
    "accuracy": Score("accuracy", "accuracy"),
    "loss": Score("loss", "loss", larger_is_better=False, scale=1.0),
    "miou": Score("miou", "mIoU"),
    "bleu": Score("bleu", "BLEU", scale=1.0),
}
