"""DPF: compute with the masked weights, update the dense ones, look again every few steps.

Lin et al. 2020, Dynamic Model Pruning with Feedback. A pruned weight goes on receiving gradients,
and returns when it has grown. Where a whole filter is pruned, batch norm divides by almost nothing
and these gradients are hundreds of times too large: such networks want clipped gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sms_dist.sparse_rules.base import Setup, Tensors
from sms_dist.sparse_rules.magnitude import MagnitudeRule
from sms_dist.sparse_rules.selection import largest, masked


class Dpf(MagnitudeRule):
    def __init__(self, weights: Tensors, setup: Setup, *, refresh: int) -> None:
        super().__init__(setup)
        self.mask = largest(weights, self.num_kept)
        self._refresh = refresh
        self._num_steps = 0

    def view(self, weights: Tensors) -> Tensors:
        return masked(weights, self.mask)

    def after_step_(self, weights: Tensors) -> None:
        self._num_steps += 1
        if self._num_steps % self._refresh == 0:
            self.mask = largest(weights, self.num_kept)

    def state(self) -> dict[str, Tensor]:
        mask = {f"mask.{name}": kept for name, kept in self.mask.items()}
        return mask | {"num_steps": torch.tensor(self._num_steps)}

    def restore(self, state: Tensors) -> None:
        for name, kept in self.mask.items():
            kept.copy_(state[f"mask.{name}"])
        self._num_steps = int(state["num_steps"])
