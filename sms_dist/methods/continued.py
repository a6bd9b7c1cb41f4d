"""Phases in which the learning-rate schedule of pretraining goes on."""

from __future__ import annotations

from sms_dist.config import Config

ORIGINAL = "original"  # stands in for a retraining schedule in what is recorded


def check_fixed_epochs(config: Config) -> None:
    """ValueError where candidates are to differ in what the schedule of pretraining decides."""
    candidates = config.candidates
    for key in ("epochs", "schedule", "warmup"):
        if key in candidates.vary or any(key in changes for changes in candidates.overrides):
            raise ValueError(
                f"candidates vary in {key}, but method.name={config.method.name} continues the "
                "schedule of pretraining; vary the seed, learning_rate or weight_decay"
            )
