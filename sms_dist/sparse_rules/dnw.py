"""DNW: compute with the largest weights of this very step, update all of them.

Wortsman et al. 2019, Discovering Neural Wirings, with one ranking over all layers. As with
DPF, gradients behind wholly pruned filters are large: clip them.
"""

from __future__ import annotations

from sms_dist.sparse_rules.base import Tensors
from sms_dist.sparse_rules.magnitude import MagnitudeRule


class Dnw(MagnitudeRule):
    def view(self, weights: Tensors) -> Tensors:
        return self.finish(weights).tensors
