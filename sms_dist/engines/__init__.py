"""An engine takes the optimizer steps of one candidate; a fresh one is made for each.

This file needs no torch: configurations are checked against it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sms_dist.base.lookup import lookup

if TYPE_CHECKING:
    from sms_dist.engines.base import Engine, Job

MakeEngine: TypeAlias = "Callable[[Job], Engine]"


def make_ddp(job: Job) -> Engine:
    """Return an engine of plain PyTorch."""
    from sms_dist.engines.ddp import DdpEngine

    return DdpEngine(job)


def make_deepspeed(job: Job) -> Engine:
    """Return an engine of DeepSpeed, whose import takes seconds."""
    from sms_dist.engines.deepspeed import DeepSpeedEngine

    return DeepSpeedEngine(job)


# `packed` has this engine for a model that trains by itself; sms_dist.stacks trains the stacks.
ENGINES: dict[str, MakeEngine] = {
    "ddp": make_ddp,
    "deepspeed": make_deepspeed,
    "packed": make_ddp,
}


def make_engine(job: Job) -> Engine:
    """Return the engine that `engine.name` chooses, ready for the first step of the job."""
    return lookup(ENGINES, job.engine.name, "engine.name")(job)


def compile_mode(wanted: str, device_type: str) -> str:
    """Return the mode of torch.compile for `engine.compile`, or "eager".

    auto is `default` on CUDA and `eager` elsewhere: it follows from the device alone, so that
    every start of a run takes the same steps.
    """
    if wanted != "auto":
        return wanted
    return "default" if device_type == "cuda" else "eager"


def compile_obstacle(task: str) -> str | None:
    """Return why the steps of a task cannot be compiled; None if they can."""
    if task != "translation":
        return None
    return "code is made for each shape, and sentences differ in length from step to step"
