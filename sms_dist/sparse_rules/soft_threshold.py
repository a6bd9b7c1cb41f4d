"""STR: each layer learns the magnitude by which all its weights are drawn towards zero.

Kusupati et al. 2020, Soft Threshold Weight Reparameterization: sign(w) * relu(|w| - sigmoid(s)).
Weight decay on s, which starts far below 0, raises the thresholds; nothing else controls sparsity.
"""

from __future__ import annotations

import torch
from torch import nn

from sms_dist.pruning.mask import Mask
from sms_dist.sparse_rules.base import Finished, Rule, Tensors
from sms_dist.sparse_rules.selection import masked


class SoftThreshold(Rule):
    def __init__(self, weights: Tensors, *, initial: float) -> None:
        self.logits = {
            name: nn.Parameter(torch.full((), initial, dtype=w.dtype, device=w.device))
            for name, w in weights.items()
        }
        self.parameters = list(self.logits.values())

    def view(self, weights: Tensors) -> Tensors:
        return self.finish(weights).tensors

    @torch.no_grad()
    def gradients_(self, weights: Tensors, gradients: Tensors) -> None:
        for name, kept in self._mask(weights).items():
            gradient = gradients[name].masked_fill_(~kept, 0.0)
            threshold = torch.sigmoid(self.logits[name])
            slope = threshold * (1 - threshold)
            self.logits[name].grad = -(gradient * weights[name].sign()).sum() * slope

    @torch.no_grad()
    def finish(self, weights: Tensors) -> Finished:
        mask = self._mask(weights)
        shrunk = {
            name: weight - weight.sign() * torch.sigmoid(self.logits[name])
            for name, weight in weights.items()
        }
        return Finished(masked(shrunk, mask), mask)

    @torch.no_grad()
    def _mask(self, weights: Tensors) -> Mask:
        return {
            name: weight.abs() > torch.sigmoid(self.logits[name])
            for name, weight in weights.items()
        }
