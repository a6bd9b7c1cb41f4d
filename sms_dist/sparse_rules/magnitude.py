"""What rules have in common that end by keeping an exact number of weights, the largest."""

from __future__ import annotations

from sms_dist.sparse_rules.base import Finished, Rule, Setup, Tensors
from sms_dist.sparse_rules.selection import largest, masked


class MagnitudeRule(Rule):
    def __init__(self, setup: Setup) -> None:
        assert setup.num_kept is not None
        self.num_kept = setup.num_kept

    def finish(self, weights: Tensors) -> Finished:
        mask = largest(weights, self.num_kept)
        return Finished(masked(weights, mask), mask)
