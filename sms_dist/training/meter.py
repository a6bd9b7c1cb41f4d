"""The training loss, which also counts what it sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sms_dist.base.lookup import guarded, own
from sms_dist.mesh.collectives import sum_
from sms_dist.mesh.topology import Axis
from sms_dist.tasks.base import Outputs, Task

FIELD = "pretrain.loss"
OwnLoss = Callable[[Any, Tensor], Tensor]  # (outputs, targets) -> their mean, or all of them


def own_loss(name: str | None) -> OwnLoss | None:
    """Return the loss `package.module:function` of pretrain.loss; None for that of the task."""
    if name is None:
        return None
    given = own(name, FIELD)
    loss: OwnLoss = guarded(given, name, FIELD)() if isinstance(given, type) else given
    return loss


@dataclass(frozen=True)
class Average:
    """Means over what a loss is divided by, and over predictions."""

    loss: float
    accuracy: float

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.loss)


@dataclass(frozen=True)
class Seen:
    """What a step sees, as a pure function: it may be mapped over candidates."""

    task: Task
    label_smoothing: float
    own_loss: OwnLoss | None = None

    def __call__(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The summed loss, and what a meter adds up: [4] float64."""
        value = self._loss(outputs, targets)
        right, count = self.task.correct(outputs, targets)
        weight = self.task.weight(targets)
        if not isinstance(weight, Tensor):
            weight = torch.full_like(count, weight)  # filled where it lies: nobody waits
        return value, torch.stack([x.double() for x in (value.detach(), right, count, weight)])

    def _loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        if self.own_loss is None:
            return self.task.loss(outputs, targets, self.label_smoothing)
        value = self.own_loss(outputs, targets)
        return value.sum() if value.dim() else value * self.task.weight(targets)


class Meter:
    """A task's loss; its totals stay on the device until somebody asks."""

    def __init__(
        self,
        task: Task,
        label_smoothing: float,
        device: torch.device,
        own_loss: OwnLoss | None = None,
    ) -> None:
        self.seen = Seen(task, label_smoothing, own_loss)
        self.totals = torch.zeros(4, dtype=torch.float64, device=device)

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        value, seen = self.seen(outputs, targets)
        self.totals += seen
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
