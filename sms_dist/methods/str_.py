"""STR: weights shrunk by a threshold for each layer, learned with them (Kusupati et al., 2020)."""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods import single_training
from sms_dist.phases import Recipe, SparseTraining


def str_(config: Config, *, initial: float) -> Recipe:
    training = SparseTraining("str", {"initial": initial})
    means = "pretrain.weight_decay and method.initial"
    return single_training.uncontrolled(config, training, means)
