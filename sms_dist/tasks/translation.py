"""Translation: the next token of a sentence in another language; measured by BLEU."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from data.dataset import DatasetInfo
from data.loader import Batch
from sms_dist.config import DataConfig
from sms_dist.tasks.base import Metrics, Outputs, Task
from sms_dist.tasks.outputs import kl_divergences, main_output

PAD = 0  # in targets: no token


class Translation(Task):
    """Each token weighs the same; outputs are batch x vocabulary x tokens."""

    score: ClassVar = "bleu"
    has_probabilities: ClassVar = False

    def __init__(self, info: DatasetInfo, config: DataConfig) -> None:
        self._info = info
        self.num_totals = 0

    def loss(self, outputs: Outputs, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return F.cross_entropy(
            main_output(outputs).float(),
            targets,
            ignore_index=PAD,
            reduction="sum",
            label_smoothing=label_smoothing,
        )

    def weight(self, targets: Tensor) -> Tensor | int:
        return (targets != PAD).sum()

    def correct(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        counted = targets != PAD
        right = (main_output(outputs).argmax(1) == targets) & counted
        return right.sum(), counted.sum()

    def totals(self, model: nn.Module, batch: Batch) -> Tensor:
        raise NotImplementedError

    def metrics(self, totals: Tensor) -> Metrics:
        raise NotImplementedError

    def divergence(self, outputs: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        return (kl_divergences(outputs, wanted) * (targets != PAD)).sum()
