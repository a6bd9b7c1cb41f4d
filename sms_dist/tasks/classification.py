"""Image classification: one class for each image."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.dataset import DatasetInfo
from data.loader import Batch
from sms_dist.config import DataConfig
from sms_dist.tasks.base import Metrics, Outputs, Task
from sms_dist.tasks.outputs import kl_divergences, main_output


class Classification(Task):
    score: ClassVar = "accuracy"
    has_probabilities: ClassVar = True

    def __init__(self, info: DatasetInfo, config: DataConfig) -> None:
        self._info = info
        self.num_totals = 3

    def loss(self, outputs: Outputs, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(
            main_output(outputs).float(),
            targets,
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    def correct(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        right = (main_output(outputs).argmax(1) == targets).sum()
        return right, torch.full_like(right, len(targets))

    def totals(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = model(*batch.inputs).float()
        loss, (right, count) = (
            self.loss(outputs, batch.targets),
            self.correct(outputs, batch.targets),
        )
        return torch.stack([loss.double(), right.double(), count.double()])

    def metrics(self, totals: Tensor) -> Metrics:
        loss, right, count = totals.tolist()
        return {"accuracy": right / count, "loss": loss / count}

    def divergence(self, outputs: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        return kl_divergences(outputs, wanted).sum()
