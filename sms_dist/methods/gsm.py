"""GSM: only the weights that matter most get a gradient; the others decay (Ding et al., 2019)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods import single_training
from sms_dist.phases import Recipe, SparseTraining


def gsm(config: Config, *, from_scratch: bool) -> Recipe:
    return single_training.exact(config, SparseTraining("gsm"), from_scratch)
