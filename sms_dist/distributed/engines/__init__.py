"""An engine takes the optimizer steps of one candidate; a fresh one is made for each."""

from __future__ import annotations

from sms_dist.config import lookup
from sms_dist.distributed.engines.base import Engine, Job, MakeEngine


def make_ddp(job: Job) -> Engine:
    from sms_dist.distributed.engines.ddp import DdpEngine

    return DdpEngine(job)


def make_deepspeed(job: Job) -> Engine:
    from sms_dist.distributed.engines.deepspeed import DeepSpeedEngine

    return DeepSpeedEngine(job)


# Functions, not classes: deepspeed takes seconds to import and is wanted only when chosen.
ENGINES: dict[str, MakeEngine] = {"ddp": make_ddp, "deepspeed": make_deepspeed}


def make_engine(job: Job) -> Engine:
    return lookup(ENGINES, job.engine.name, "engine.name")(job)
