"""Iterative Magnitude Pruning: a single candidate per phase (Han et al., 2015)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.cycles import candidate, cycles
from sms_dist.phases import Phase


def imp(config: Config) -> tuple[Phase, ...]:
    return cycles(config, (candidate(config, 0),), "uniform")
