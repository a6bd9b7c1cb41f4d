"""Tasks: losses to train with and metrics; the label, direction and scale of each metric."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sms_dist.base.lookup import guarded, own

if TYPE_CHECKING:  # the names of scores are looked up without paying for torch
    from sms_dist.config import DataConfig
    from sms_dist.data.dataset import DatasetInfo
    from sms_dist.tasks.base import Task

TASKS = {
    "classification": "sms_dist.tasks.classification:Classification",
    "segmentation": "sms_dist.tasks.segmentation:Segmentation",
    "translation": "sms_dist.tasks.translation:Translation",
}


def make_task(info: DatasetInfo, config: DataConfig) -> Task:
    """Return the task of a data set: one of the table, or `package.module:Class`."""
    name = TASKS.get(info.task, info.task)
    task: Task = guarded(own(name, "task"), name, "task")(info, config)
    return task


@dataclass(frozen=True)
class Score:
    """Facts of one metric. Values are stored as they are; a display multiplies them by `scale`."""

    name: str
    label: str
    larger_is_better: bool = True
    scale: float = 100.0


_ALL = (
    Score("accuracy", "accuracy"),
    Score("top5_accuracy", "top-5 accuracy"),
    Score("loss", "loss", larger_is_better=False, scale=1.0),
    Score("ece", "ECE", larger_is_better=False),
    Score("worst_class_accuracy", "worst-class accuracy"),
    Score("balanced_accuracy", "balanced accuracy"),
    Score("worst_subgroup_recall", "worst sub-group recall"),
    Score("balanced_subgroup_recall", "balanced sub-group recall"),
    Score("miou", "mIoU"),
    Score("worst_class_iou", "worst-class IoU"),
    Score("bleu", "BLEU", scale=1.0),
    Score("token_accuracy", "token accuracy"),
    Score("ood_accuracy", "OOD accuracy"),
    Score("ood_miou", "OOD mIoU"),
)
SCORES: dict[str, Score] = {score.name: score for score in _ALL}

# Metrics of which there is one for each class, sub-group or corruption: name_<which>.
FAMILIES: dict[str, Score] = {
    "recall": Score("recall", "recall"),
    "iou": Score("iou", "IoU"),
    "ood_accuracy": SCORES["ood_accuracy"],
    "ood_miou": SCORES["ood_miou"],
}
SAMPLES = ("test_", "validation_")


def score(name: str) -> Score | None:
    """Return the facts of `accuracy`, `test_accuracy` or `test_recall_girls`; None if no metric."""
    for prefix in SAMPLES:
        name = name.removeprefix(prefix)
    if name in SCORES:
        return SCORES[name]
    for family, facts in FAMILIES.items():
        if name.startswith(f"{family}_"):
            which = name.removeprefix(f"{family}_").replace("_", " ")
            return replace(facts, name=name, label=f"{facts.label} {which}")
    return None


# The metrics, measured on validation samples, by which candidates can be compared, by task.
COMPARABLE = {
    "classification": ("accuracy", "loss", "ece", "balanced_accuracy", "worst_class_accuracy"),
    "segmentation": ("miou", "loss", "accuracy", "worst_class_iou"),
    "translation": ("bleu", "loss", "accuracy"),
}
