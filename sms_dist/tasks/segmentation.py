"""Semantic segmentation: one class for each pixel; those of no class do not count."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.dataset import DatasetInfo
from data.loader import Batch
from sms_dist.config import DataConfig
from sms_dist.metrics import segmentation
from sms_dist.tasks.base import Metrics, Outputs, Task
from sms_dist.tasks.outputs import kl_divergences, main_output

AUXILIARY = 0.4  # weight of an auxiliary head's loss (Zhao et al., 2017)
NO_CLASS = -100


class Segmentation(Task):
    """Each image weighs the same, however many of its pixels have a class."""

    score: ClassVar = "miou"
    has_probabilities: ClassVar = False

    def __init__(self, info: DatasetInfo, config: DataConfig) -> None:
        self._void, self._classes = info.void, info.classes
        self.num_totals = segmentation.num_totals(info.num_classes)

    def loss(self, outputs: Outputs, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        main, *others = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = self._mean_of_pixels(main, targets, label_smoothing)
        for other in others:
            loss = loss + AUXILIARY * self._mean_of_pixels(other, targets, label_smoothing)
        return loss

    def correct(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        counted = self._counted(targets)
        right = (main_output(outputs).argmax(1) == targets) & counted
        return right.sum(), counted.sum()

    def totals(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs = main_output(model(*batch.inputs)).float()
        return segmentation.totals(outputs, batch.targets, len(self._classes), self._void)

    def metrics(self, totals: Tensor) -> Metrics:
        found = segmentation.metrics(totals, len(self._classes))
        return found | segmentation.class_ious(totals, self._classes)

    def divergence(self, outputs: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        return self._sum_of_means(kl_divergences(outputs, wanted), self._counted(targets))

    def _counted(self, targets: Tensor) -> Tensor:
        if self._void is None:
            return torch.ones_like(targets, dtype=torch.bool)
        return targets != self._void

    def _mean_of_pixels(self, outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        counted = self._counted(targets)
        losses = F.cross_entropy(
            outputs.float(),
            targets.masked_fill(~counted, NO_CLASS),
            ignore_index=NO_CLASS,
            reduction="none",
            label_smoothing=label_smoothing,
        )
        return self._sum_of_means(losses, counted)

    def _sum_of_means(self, values: Tensor, counted: Tensor) -> Tensor:
        """Of values that are N x H x W: over the pixels that count, then summed over images."""
        return ((values * counted).sum((1, 2)) / counted.sum((1, 2)).clamp_min(1)).sum()
