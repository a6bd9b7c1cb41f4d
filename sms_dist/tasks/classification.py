"""Image classification: one class for each image; scores out of totals that add up."""

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

TOP = 5
NUM_BINS = 15  # of the calibration error
_HEAD = 4  # samples, summed loss, correct, among the top five


class Classification(Task):
    """Each image weighs the same; outputs are N x classes."""

    score: ClassVar = "accuracy"
    has_probabilities: ClassVar = True

    def __init__(self, info: DatasetInfo, config: DataConfig) -> None:
        self._num_classes, self._subgroups = info.num_classes, info.subgroups
        self.num_totals = num_totals(info.num_classes, len(info.subgroups))

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
        return totals(
            outputs, batch.targets, self._num_classes, batch.subgroups, len(self._subgroups)
        )

    def metrics(self, totals: Tensor) -> Metrics:
        return metrics(totals, self._num_classes, self._subgroups)

    def divergence(self, outputs: Tensor, wanted: Tensor, targets: Tensor) -> Tensor:
        return kl_divergences(outputs, wanted).sum()


def num_totals(num_classes: int, num_subgroups: int = 0) -> int:
    """Return the length of `totals`."""
    return _HEAD + 3 * NUM_BINS + 2 * num_classes + 2 * num_subgroups


def totals(
    outputs: Tensor,
    targets: Tensor,
    num_classes: int,
    subgroups: Tensor | None = None,
    num_subgroups: int = 0,
) -> Tensor:
    """Return the totals of a batch: float64, on the device of the outputs.

    Outputs: N x classes; targets and subgroups: int64 N. Equal outputs rank by class number; NaN
    is never correct, and makes the loss NaN. Samples whose sub-groups are not known (None) count
    in none.
    """
    assert outputs.shape == (len(targets), num_classes), (outputs.shape, targets.shape)
    log_shares = outputs.double().log_softmax(1)
    rank = _rank(outputs, targets)
    correct = rank == 0
    head = torch.stack(
        [
            outputs.new_tensor(len(targets), dtype=torch.float64),
            -log_shares.gather(1, targets[:, None]).sum(),
            correct.sum(),
            (rank < TOP).sum(),
        ]
    )
    parts = [head, _bins(log_shares, correct), _counts(targets, correct, num_classes)]
    if subgroups is None:
        parts.append(head.new_zeros(2 * num_subgroups))
    elif num_subgroups:
        parts.append(_counts(subgroups, correct, num_subgroups))
    return torch.cat(parts)


def metrics(
    totals: Tensor, num_classes: int, subgroup_names: Sequence[str] = ()
) -> dict[str, float]:
    """Return the metrics from the summed totals of at least one sample.

    Classes and sub-groups without samples are left out. `balanced_accuracy` is the mean recall of
    the classes, `balanced_subgroup_recall` that of the sub-groups (the paper's "balanced accuracy"
    in Table 15).
    """
    lengths = [_HEAD, 3 * NUM_BINS, 2 * num_classes, 2 * len(subgroup_names)]
    head, bins, classes, subgroups = torch.split(totals.detach().cpu(), lengths)
    count, loss, correct, among_top = head.tolist()
    _, confidence, right = bins.view(3, NUM_BINS)
    recalls = list(_recalls(classes).values())
    values = {
        "accuracy": correct / count,
        "loss": loss / count,
        "ece": float((confidence - right).abs().sum()) / count,
        "worst_class_accuracy": min(recalls),
        "balanced_accuracy": sum(recalls) / len(recalls),
    }
    if num_classes > TOP:
        values["top5_accuracy"] = among_top / count
    if by_subgroup := _recalls(subgroups):
        names = subgroup_names
        values |= {f"recall_{names[n]}": recall for n, recall in by_subgroup.items()}
        values["worst_subgroup_recall"] = min(by_subgroup.values())
        values["balanced_subgroup_recall"] = sum(by_subgroup.values()) / len(by_subgroup)
    return values


def _rank(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return how many classes come before the target: 0 is correct; all of them where it is NaN."""
    own = outputs.gather(1, targets[:, None])
    classes = torch.arange(outputs.shape[1], device=outputs.device)
    is_behind = (outputs < own) | ((outputs == own) & (classes >= targets[:, None]))
    return (~is_behind).sum(1)


def _bins(log_shares: Tensor, correct: Tensor) -> Tensor:
    """Return samples, summed confidence and correct ones by confidence in (k/15, (k+1)/15]."""
    confidence = log_shares.amax(1).exp().nan_to_num(0)
    number = (confidence * NUM_BINS).ceil().long().sub_(1).clamp_(0, NUM_BINS - 1)
    is_in = number == torch.arange(NUM_BINS, device=number.device)[:, None]
    # no scatter of floating-point numbers: its order of summation is open on a GPU
    return torch.cat([is_in.sum(1), (is_in * confidence).sum(1), (is_in & correct).sum(1)])


def _counts(kinds: Tensor, correct: Tensor, num_kinds: int) -> Tensor:
    """Return samples and correct ones of each class or sub-group."""
    pairs = torch.bincount(kinds * 2 + correct, minlength=2 * num_kinds).view(-1, 2)
    assert len(pairs) == num_kinds, f"there are only {num_kinds} classes or sub-groups"
    return torch.cat([pairs.sum(1), pairs[:, 1]]).double()


def _recalls(counts: Tensor) -> dict[int, float]:
    """Return the share of correct samples of each kind that has samples."""
    samples, correct = counts.view(2, -1).tolist()
    return {kind: correct[kind] / number for kind, number in enumerate(samples) if number}
