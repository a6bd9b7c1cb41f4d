"""Sparse Model Soups: m candidates per phase; their soup starts the next one (Algorithm 1)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.candidates import several
from sms_dist.methods.cycles import after_training, cycles
from sms_dist.phases import Recipe


def sms(config: Config) -> Recipe:
    return after_training(config, cycles(config, lambda k: several(config, k), config.soup.rule))
