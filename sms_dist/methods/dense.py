"""Dense: nothing is pruned; pretraining is all there is."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.cycles import after_training
from sms_dist.phases import Recipe


def dense(config: Config) -> Recipe:
    return after_training(config, ())
