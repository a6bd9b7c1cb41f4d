"""Tasks: what a model is trained for, and how it is measured."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

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
    """Return the task of a data set."""
    module, _, name = TASKS[info.task].partition(":")
    task: Task = getattr(import_module(module), name)(info, config)
    return task
