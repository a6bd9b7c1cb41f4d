"""LC: weights drawn ever harder to their pruned selves (Carreira-Perpinan & Idelbayev, 2018)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods import single_training
from sms_dist.methods.single_training import StartKeys
from sms_dist.phases import Recipe, SparseTraining
from sms_dist.sparse_rules import options


class LcKeys(StartKeys, options.Lc):
    pass


def lc(config: Config, *, from_scratch: bool, **numbers: float) -> Recipe:
    return single_training.exact(config, SparseTraining("lc", numbers), from_scratch)
