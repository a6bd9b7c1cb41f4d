"""Iterative Magnitude Pruning: a single candidate per phase (Han et al., 2015)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.candidates import single
from sms_dist.methods.cycles import after_training, cycles
from sms_dist.phases import Recipe


def imp(config: Config) -> Recipe:
    return after_training(config, cycles(config, lambda k: single(config)))
