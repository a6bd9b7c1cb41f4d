"""DNW: the largest weights compute, the gradient reaches all (Wortsman et al., 2019)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods import single_training
from sms_dist.phases import Recipe, SparseTraining


def dnw(config: Config) -> Recipe:
    return single_training.exact(config, SparseTraining("dnw"), from_scratch=True)
