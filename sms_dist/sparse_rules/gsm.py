"""GSM: only the weights that matter most to the loss see its gradient; the others decay.

Ding et al. 2019, Global Sparse Momentum SGD: v = beta*v + B*g + lambda*w; w -= eta*v. With B*g for
a gradient that is SGD with momentum and weight decay as they are, without Nesterov's look ahead.
"""

from __future__ import annotations

import torch

from sms_dist.pruning.mask import apply_
from sms_dist.sparse_rules.base import Tensors
from sms_dist.sparse_rules.magnitude import MagnitudeRule
from sms_dist.sparse_rules.selection import largest


class Gsm(MagnitudeRule):
    allows_nesterov = False

    @torch.no_grad()
    def gradients_(self, weights: Tensors, gradients: Tensors) -> None:
        # |w*g| is, to first order, how much the loss changes when the weight is removed.
        saliency = {name: weight * gradients[name] for name, weight in weights.items()}
        apply_(gradients, largest(saliency, self.num_kept))
