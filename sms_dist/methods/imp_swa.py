"""IMP+SWA: in each phase the average of the weights after every epoch (paper, appendix C.3)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.candidates import single
from sms_dist.methods.cycles import after_training, cycles
from sms_dist.phases import Recipe


def imp_swa(config: Config) -> Recipe:
    """From the first epoch on, unless retrain.swa_from says otherwise."""
    swa_from = config.retrain.swa_from or 0.0
    return after_training(config, cycles(config, lambda k: single(config, swa_from=swa_from)))
