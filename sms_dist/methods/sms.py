"""Sparse Model Soups: m candidates per phase; their soup starts the next one (Algorithm 1)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.cycles import candidate, cycles
from sms_dist.phases import Phase


def sms(config: Config) -> tuple[Phase, ...]:
    vary = config.candidates.vary
    candidates = tuple(
        candidate(config, i, **{key: values[i] for key, values in vary.items()})
        for i in range(config.candidates.count)
    )
    return cycles(config, candidates, config.soup.rule)
