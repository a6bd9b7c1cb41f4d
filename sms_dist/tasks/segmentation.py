"""Semantic segmentation: one class for each pixel; those of no class do not count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sms_dist.config import DataConfig
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.loader import Batch
from sms_dist.tasks.base import Metrics, Outputs, Task, kl_divergences, main_output

AUXILIARY = 0.4  # weight of an auxiliary head's loss (Zhao et al., 2017)
NO_CLASS = -100
_HEAD = 2  # images with valid pixels, sum of their mean losses


class Segmentation(Task):
    """Each image weighs the same, however many of its pixels have a class."""

    score: ClassVar = "miou"
    has_probabilities: ClassVar = False

    def __init__(self, info: DatasetInfo, config: DataConfig) -> None:
        self._void, self._classes = info.void, info.classes
        self.num_totals = num_totals(info.num_classes)

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
        return totals(outputs, batch.targets, len(self._classes), self._void)

    def metrics(self, totals: Tensor) -> Metrics:
        return metrics(totals, len(self._classes)) | class_ious(totals, self._classes)

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
        """Return the sum over images of the mean over the pixels that count; values: N x H x W."""
        return ((values * counted).sum((1, 2)) / counted.sum((1, 2)).clamp_min(1)).sum()


def num_totals(num_classes: int) -> int:
    """Return the length of `totals`."""
    return _HEAD + num_classes**2


def totals(outputs: Tensor, targets: Tensor, num_classes: int, void: int | None) -> Tensor:
    """Return the totals of a batch: float64, on the device of the outputs.

    Outputs: N x classes x H x W; targets: uint8 or int64 N x H x W, with `void` where nothing
    counts. Equal outputs: the lower class.
    """
    assert outputs.shape[1] == num_classes, (outputs.shape, num_classes)
    assert outputs.shape[2:] == targets.shape[1:], (outputs.shape, targets.shape)
    targets = targets.long()
    is_valid = torch.ones_like(targets, dtype=torch.bool) if void is None else targets != void
    wanted, predicted = targets[is_valid], _classes(outputs)[is_valid]
    confusion = torch.bincount(wanted * num_classes + predicted, minlength=num_classes**2)
    assert len(confusion) == num_classes**2, f"a mask has a class beyond {num_classes - 1}"
    return torch.cat([_losses(outputs, targets, is_valid), confusion.double()])


def metrics(totals: Tensor, num_classes: int) -> dict[str, float]:
    """Return `miou`, `accuracy` of pixels, `worst_class_iou` and `loss`.

    The loss is a mean over images of means over their pixels.

    A class that neither the masks nor the predictions contain is left out of the mean; one that is
    predicted but not in any mask counts as 0.
    """
    images, loss = totals[:_HEAD].tolist()
    confusion = _confusion(totals, num_classes)
    ious = list(_ious(confusion).values())
    return {
        "miou": sum(ious) / len(ious),
        "accuracy": float(confusion.diagonal().sum() / confusion.sum()),
        "worst_class_iou": min(ious),
        "loss": loss / images,
    }


def class_ious(totals: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Return `iou_<class>` of the classes that masks or predictions contain."""
    ious = _ious(_confusion(totals, len(class_names)))
    return {f"iou_{class_names[number]}": iou for number, iou in ious.items()}


def _classes(outputs: Tensor) -> Tensor:
    """Return the class of the largest output, the first of equal ones; argmax takes any."""
    is_largest = outputs == outputs.amax(1, keepdim=True)
    numbers = torch.arange(outputs.shape[1], device=outputs.device).view(1, -1, 1, 1)
    last = outputs.shape[1] - 1  # also where an output is NaN: then the loss tells
    return torch.where(is_largest, numbers, last).amin(1)


def _losses(outputs: Tensor, targets: Tensor, is_valid: Tensor) -> Tensor:
    """Return the images with valid pixels, and the sum over them of the mean cross-entropy."""
    of_pixels = F.cross_entropy(
        outputs.float(), targets.where(is_valid, -1), reduction="none", ignore_index=-1
    )
    num_valid = is_valid.sum((1, 2))
    means = of_pixels.double().sum((1, 2)) / num_valid.clamp_min(1)
    return torch.stack([(num_valid > 0).sum().double(), means.sum()])


def _confusion(totals: Tensor, num_classes: int) -> Tensor:
    """Return the pixels, wanted class x predicted class."""
    return totals[_HEAD:].detach().cpu().view(num_classes, num_classes)


def _ious(confusion: Tensor) -> dict[int, float]:
    """Return the intersection over union of each class with a union."""
    both = confusion.diagonal()
    either = confusion.sum(0) + confusion.sum(1) - both
    pairs = zip(both.tolist(), either.tolist(), strict=True)
    return {number: own / union for number, (own, union) in enumerate(pairs) if union}
