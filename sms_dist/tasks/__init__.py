"""Tasks: what a model is trained for, and how it is measured."""

from __future__ import annotations

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
