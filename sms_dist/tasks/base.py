"""What a task is: a loss to train with, and totals that become metrics.

Metrics are functions of totals that add up over samples. So they can be summed over ranks in any
division of the samples, and each sample counts exactly once.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Protocol, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.data.loader import Batch

Outputs: TypeAlias = "Tensor | tuple[Tensor, ...]"  # several: the model has auxiliary heads
Metrics = dict[str, float]


class Task(Protocol):
    """The outputs of a model, before softmax, have the classes along dim 1."""

    score: ClassVar[str]  # the metric by which models are compared
    has_probabilities: ClassVar[bool]  # few enough to average those of several models
    num_totals: int

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Summed; divided by the batch's weight it is the mean. Auxiliary heads take part."""

    def weight(self, targets: Tensor) -> Tensor | int:
        """What the loss of these targets is to be divided by: samples, unless the task says else.

        Summed over the ranks of a group it is the batch's weight.
        """
        return len(targets)

    @abstractmethod
    def correct(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(right, all) predictions of samples, pixels or tokens: for the eye, while training."""

    @abstractmethod
    def totals(self, model: nn.Module, batch: Batch) -> Tensor:
        """[num_totals] float64, of a model in evaluation mode."""

    @abstractmethod
    def metrics(self, totals: Tensor) -> Metrics:
        """Out of the totals of at least one sample; the score is among them."""

    @abstractmethod
    def divergence(self, outputs: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        """KL(wanted || outputs), where `wanted` are another model's, summed as the loss is."""

    def facts(self) -> dict[str, str]:
        """What a reader of the metrics has to know, for the journal."""
        return {}


def main_output(outputs: Outputs) -> Tensor:
    """Without auxiliary heads."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def kl_divergences(outputs: Tensor, wanted: Tensor) -> Tensor:
    """KL(wanted || outputs) of each sample, pixel or token: classes along dim 1 are summed."""
    found, target = (logits.float().log_softmax(1) for logits in (outputs, wanted))
    return F.kl_div(found, target, reduction="none", log_target=True).sum(1)
