"""Tasks: what a model is trained for, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable

from data.dataset import DatasetInfo
from sms_dist.config import DataConfig
from sms_dist.tasks.base import Task
from sms_dist.tasks.classification import Classification
from sms_dist.tasks.segmentation import Segmentation
from sms_dist.tasks.translation import Translation

TASKS: dict[str, Callable[[DatasetInfo, DataConfig], Task]] = {
    "classification": Classification,
    "segmentation": Segmentation,
    "translation": Translation,
}


def make_task(info: DatasetInfo, config: DataConfig) -> Task:
    """The task of a data set."""
    return TASKS[info.task](info, config)
