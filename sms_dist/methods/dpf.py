"""DPF: gradual pruning with feedback; pruned weights go on learning (Lin et al., 2020).

The network computes with masked weights, the gradient updates the dense ones, and the mask is
taken from them anew every few steps. Copies average the dense weights, then mask.
"""

from __future__ import annotations

from sms_dist.config import Config
from sms_dist.methods.gradual import CopiesKeys, gradual, gradual_sms
from sms_dist.phases import Recipe, SparseTraining
from sms_dist.sparse_rules import options


class DpfSmsKeys(options.Dpf, CopiesKeys):
    pass


def dpf(config: Config, *, refresh: int) -> Recipe:
    return gradual(config, _training(refresh))


def dpf_sms(config: Config, *, refresh: int, copies_from: int | None) -> Recipe:
    return gradual_sms(config, _training(refresh), copies_from)


def _training(refresh: int) -> SparseTraining:
    return SparseTraining("dpf", {"refresh": refresh})
