"""GMP: gradual magnitude pruning; what is pruned stays pruned (Zhu & Gupta, 2017)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.gradual import gradual, gradual_sms
from sms_dist.phases import Recipe, SparseTraining


def gmp(config: Config) -> Recipe:
    return gradual(config, SparseTraining())


def gmp_sms(config: Config, *, copies_from: int | None) -> Recipe:
    return gradual_sms(config, SparseTraining(), copies_from)
