"""IMP with m times as many phases, each of which prunes less (paper, appendix C.2)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.candidates import single
from sms_dist.methods.cycles import after_training, cycles
from sms_dist.phases import Recipe


def imp_m_phases(config: Config) -> Recipe:
    num_phases = config.candidates.count * config.pruning.phases
    return after_training(config, cycles(config, lambda k: single(config), num_phases=num_phases))
