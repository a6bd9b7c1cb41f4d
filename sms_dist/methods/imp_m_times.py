"""IMP_mx: a single candidate that retrains m times as long in each phase (paper, section 3.1)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.candidates import several, single
from sms_dist.methods.cycles import after_training, cycles
from sms_dist.phases import Recipe


def imp_m_times(config: Config) -> Recipe:
    """As many epochs in each phase as the candidates of SMS have together."""

    def epochs(phase: int) -> int:
        return sum(candidate.retrain.epochs for candidate in several(config, phase))

    return after_training(config, cycles(config, lambda k: single(config, epochs=epochs(k))))
