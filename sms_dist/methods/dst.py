"""DST: a threshold for each neuron, learned with the weights (Liu et al., 2020)."""

from __future__ import annotations

from sms_dist.config import Above0, Config, Section
from sms_dist.methods import single_training
from sms_dist.phases import Recipe, SparseTraining


class DstKeys(Section):
    alpha: Above0 = 1e-5
    """how strongly high thresholds, and with them sparsity, are rewarded"""


def dst(config: Config, *, alpha: float) -> Recipe:
    training = SparseTraining("dst", {"alpha": alpha})
    return single_training.uncontrolled(config, training, "method.alpha")
