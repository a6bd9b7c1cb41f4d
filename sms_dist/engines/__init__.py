"""An engine takes the optimizer steps of one candidate; a fresh one is made for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sms_dist.base.lookup import lookup

if TYPE_CHECKING:  # a configuration is checked against the table below without paying for torch
    from sms_dist.engines.base import Engine, Job

MakeEngine: TypeAlias = "Callable[[Job], Engine]"


def make_ddp(job: Job) -> Engine:
    from sms_dist.engines.ddp import DdpEngine

    return DdpEngine(job)


def make_deepspeed(job: Job) -> Engine:
    from sms_dist.engines.deepspeed import DeepSpeedEngine

    return DeepSpeedEngine(job)


# Functions, not classes: deepspeed takes seconds to import and is wanted only when chosen.
# Of packed, this is for what trains by itself; packs are made of PackedEngine.
ENGINES: dict[str, MakeEngine] = {
    "ddp": make_ddp,
    "deepspeed": make_deepspeed,
    "packed": make_ddp,
}


def make_engine(job: Job) -> Engine:
    return lookup(ENGINES, job.engine.name, "engine.name")(job)
