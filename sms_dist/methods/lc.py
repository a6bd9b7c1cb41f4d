"""LC: weights drawn ever harder to their pruned selves (Carreira-Perpinan & Idelbayev, 2018)."""

from __future__ import annotations

from sms_dist.config import Above0, Config, Count
from sms_dist.methods import single_training
from sms_dist.methods.single_training import StartKeys
from sms_dist.phases import Recipe, SparseTraining


class LcKeys(StartKeys):
    mu: Above0 = 1e-3
    """how hard the weights are drawn, at first"""
    mu_growth: Above0 = 1.2
    """the factor of mu at each compression"""
    epochs_per_compression: Count = 1
    """epochs between two compressions"""


def lc(config: Config, *, from_scratch: bool, **options: float) -> Recipe:
    return single_training.exact(config, SparseTraining("lc", options), from_scratch)
