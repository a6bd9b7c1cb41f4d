"""The training loss, which also counts what it sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sms_dist.distributed.collectives import sum_
from sms_dist.distributed.topology import Axis
from sms_dist.tasks.base import Outputs, Task


@dataclass(frozen=True)
class Average:
    """Means over what a loss is divided by, and over predictions."""

    loss: float
    accuracy: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss)


class Meter:
    """A task's loss; its totals stay on the device until somebody asks."""

    def __init__(self, task: Task, label_smoothing: float, device: torch.device) -> None:
        self._task, self._label_smoothing = task, label_smoothing
        self.totals = torch.zeros(4, dtype=torch.float64, device=device)

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        value = self._task.loss(outputs, targets, self._label_smoothing)
        right, count = self._task.correct(outputs, targets)
        self.totals[0] += value.detach()
        self.totals[1] += right
        self.totals[2] += count
        self.totals[3] += self._task.weight(targets)
        return value

    def average(self) -> Average:
        """Of what this rank saw."""
        return _average(self.totals)

    def average_over(self, axis: Axis) -> Average:
        """Of what all ranks of the axis saw. Every rank of the axis must call."""
        return _average(sum_(self.totals.clone(), axis))


def _average(totals: Tensor) -> Average:
    loss, right, count, weight = totals.tolist()
    return Average(loss / max(weight, 1), right / max(count, 1))
