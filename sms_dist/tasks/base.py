"""The interface of a task: a loss to train with, and totals that become metrics.

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
    """A task; the outputs of a model, before softmax, have the classes along dim 1."""

    score: ClassVar[str]  # the metric by which models are compared
    has_probabilities: ClassVar[bool]  # few enough to average those of several models
    num_totals: int

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the summed loss with auxiliary heads; over the batch's weight it is the mean."""

    def weight(self, targets: Tensor) -> Tensor | int:
        """Return the number by which the loss of these targets is divided: by default, of samples.

        Summed over the ranks of a group it is the batch's weight.
        """
        return len(targets)

    @abstractmethod
    def correct(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return (right, all) predictions of samples, pixels or tokens, to show while training."""

    @abstractmethod
    def totals(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the totals of a batch for a model in evaluation mode: float64 [num_totals]."""

    @abstractmethod
    def metrics(self, totals: Tensor) -> Metrics:
        """Return the metrics, the score among them, from the totals of at least one sample."""

    @abstractmethod
    def divergence(self, outputs: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        """Return KL(wanted || outputs) to another model's outputs, summed as the loss is."""

    def facts(self) -> dict[str, str]:
        """Return the facts that a reader of the metrics needs, for the journal."""
        return {}


def main_output(outputs: Outputs) -> Tensor:
    """Return the outputs without auxiliary heads."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def kl_divergences(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Return KL(wanted || outputs) of each sample, pixel or token; classes (dim 1) are summed."""
    own, target = (logits.float().log_softmax(1) for logits in (outputs, wanted))
    return F.kl_div(own, target, reduction="none", log_target=True).sum(1)
