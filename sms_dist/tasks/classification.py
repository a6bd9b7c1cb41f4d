"""Image classification: one class for each image."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.dataset import DatasetInfo
from data.loader import Batch
from sms_dist.config import DataConfig
from sms_dist.metrics import classification
from sms_dist.tasks.base import Metrics, Outputs, Task
from sms_dist.tasks.outputs import kl_divergences, main_output


class Classification(Task):
    score: ClassVar = "accuracy"
    has_probabilities: ClassVar = True

    def __init__(self, info: DatasetInfo, config: DataConfig) -> None:
        self._num_classes, self._subgroups = info.num_classes, info.subgroups
        self.num_totals = classification.num_totals(info.num_classes, len(info.subgroups))

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
        outputs = main_output(model(*batch.inputs)).float()
        return classification.totals(
            outputs, batch.targets, self._num_classes, batch.subgroups, len(self._subgroups)
        )

    def metrics(self, totals: Tensor) -> Metrics:
        return classification.metrics(totals, self._num_classes, self._subgroups)

    def divergence(self, outputs: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        return kl_divergences(outputs, wanted).sum()
