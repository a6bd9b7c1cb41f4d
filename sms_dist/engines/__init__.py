"""An engine takes the optimizer steps of one candidate; a fresh one is made for each.

This file needs no torch: configurations are checked against it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sms_dist.base.lookup import lookup

if TYPE_CHECKING:
    from torch import nn

    from sms_dist.config import EngineConfig
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


def check_deepspeed(engine: EngineConfig, clip_norm: float | None, model: nn.Module) -> None:
    """Raise ValueError for a parameter that DeepSpeed cannot hold or train, on any device."""
    from torch import nn

    for layer in model.modules():
        if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) and layer.sparse:
            raise _no_deepspeed("an embedding has sparse gradients", "build it with sparse=False")
    stage = engine.zero_stage
    for name, p in model.named_parameters():
        if stage == 3 and p.numel() == 0:
            raise _no_deepspeed(f"{name} has no elements", "use engine.zero_stage=2")
        if stage == 3 and p.dim() == 0:
            raise _no_deepspeed(
                f"{name} has no dims, and ZeRO-3 cuts along one", "use engine.zero_stage=2"
            )
        if p.requires_grad and str(p.dtype) not in ("torch.float32", "torch.bfloat16"):
            raise _no_deepspeed(f"{name} is of {p.dtype}", "build it as float32")
        if p.requires_grad and p.dim() == 0 and stage == 0 and clip_norm is not None:
            raise _no_deepspeed(
                f"{name} has no dims, which ZeRO-0 cannot clip", "use engine.zero_stage=1"
            )


def _no_deepspeed(reason: str, way_out: str) -> ValueError:
    return ValueError(f"engine.name=deepspeed: {reason}; {way_out}, or engine.name=ddp")


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
