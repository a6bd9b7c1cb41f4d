"""IMP_mx: a single candidate that retrains m times as long in each phase (paper, section 3.1)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.cycles import candidate, cycles
from sms_dist.phases import Phase


def imp_m_times(config: Config) -> tuple[Phase, ...]:
    epochs = config.candidates.count * config.retrain.epochs
    return cycles(config, (candidate(config, 0, epochs=epochs),), "uniform")
