"""The training loss, which also counts what it sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from sms_dist.distributed.collectives import sum_
from sms_dist.distributed.topology import Axis


@dataclass(frozen=True)
class Average:
    """Means over samples."""

    loss: float
    accuracy: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss)


class Meter:
    """Cross-entropy summed over samples; totals stay on the device until somebody asks."""

    def __init__(self, label_smoothing: float, device: torch.device) -> None:
        self._label_smoothing = label_smoothing
        self.totals = torch.zeros(3, dtype=torch.float64, device=device)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        value = cross_entropy(
            outputs.float(), targets, reduction="sum", label_smoothing=self._label_smoothing
        )
        correct = (outputs.detach().argmax(1) == targets).sum()
        self.totals[0] += value.detach()
        self.totals[1] += correct
        self.totals[2] += len(targets)
        return value

    def average(self) -> Average:
        """Of what this rank saw."""
        return _average(self.totals)

    def average_over(self, axis: Axis) -> Average:
        """Of what all ranks of the axis saw. Every rank of the axis must call."""
        return _average(sum_(self.totals.clone(), axis))


def _average(totals: Tensor) -> Average:
    loss, correct, count = totals.tolist()
    return Average(loss / max(count, 1), correct / max(count, 1))
