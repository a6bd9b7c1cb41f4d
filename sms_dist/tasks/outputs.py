"""The pieces that the losses of all tasks share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from sms_dist.tasks.base import Outputs


def main_output(outputs: Outputs) -> Tensor:
    """Without auxiliary heads."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def kl_divergences(outputs: Tensor, wanted: Tensor) -> Tensor:
    """KL(wanted || outputs) of each sample, pixel or token: classes along dim 1 are summed."""
    found, target = (logits.float().log_softmax(1) for logits in (outputs, wanted))
    return F.kl_div(found, target, reduction="none", log_target=True).sum(1)
