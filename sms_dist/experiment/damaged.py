"""Damaged samples that were left out, by name in the journal."""

from __future__ import annotations

from sms_dist.mesh.collectives import gather_json
from sms_dist.run.journal import DamagedSamplesEvent
from sms_dist.run.logbook import Logbook
from sms_dist.training.context import Context


def tell_damaged(context: Context, log: Logbook, place: str) -> None:
    """What all ranks have come upon up to now. Every rank must call."""
    mine = list(context.loaders.damaged())
    everyone = gather_json(mine, context.mesh.world, context.mesh.device)
    if found := sorted({name for names in everyone for name in names}):
        log.event(DamagedSamplesEvent(where=place, samples=tuple(found)))
