"""What each sparse training rule lets people choose, with its defaults and where they are from."""

from __future__ import annotations

from sms_dist.config_section import Above0, AtLeast0, Count, Section


class Dpf(Section):
    refresh: Count = 16
    """steps from one mask to the next (Lin et al. 2020)"""


class Gsm(Section):
    """Nothing: momentum and weight decay, those of the optimizer, are what to tune."""


class Dnw(Section):
    """Nothing."""


class Lc(Section):
    mu: Above0 = 1e-2
    """weight of the penalty for what compression changes, at first"""
    final_mu: Above0 = 1.0
    """the same at the end; mu grows by equal factors at the compressions, however long training is
    (the learning rate times mu must stay well below 4)"""
    epochs_per_compression: Count = 1
    """epochs of training from one compression to the next"""


class Dst(Section):
    alpha: AtLeast0 = 1e-5
    """reward for large thresholds; more of it makes sparser networks (Liu et al. 2020 take 5e-6 for
    CIFAR-10 over 160 epochs; the shorter the training, the more is needed)"""


class Str(Section):
    initial: float = -5.0
    """logit of all thresholds at first; weight decay draws it towards 0, a threshold of 0.5"""
