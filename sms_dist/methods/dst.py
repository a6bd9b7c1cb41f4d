"""DST: a threshold for each neuron, learned with the weights (Liu et al., 2020)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods import single_training
from sms_dist.phases import Recipe, SparseTraining


def dst(config: Config, *, alpha: float) -> Recipe:
    training = SparseTraining("dst", {"alpha": alpha})
    return single_training.uncontrolled(config, training, "method.alpha")
