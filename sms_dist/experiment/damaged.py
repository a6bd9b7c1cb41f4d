"""Damaged samples that were left out, by name in the journal."""

from __future__ import annotations

from sms_dist.mesh.collectives import gather_json
from sms_dist.run.events import DamagedSamplesEvent
from sms_dist.run.logbook import Logbook
from sms_dist.training.workbench import Workbench


def tell_damaged(bench: Workbench, book: Logbook, place: str) -> None:
    """What all ranks have come upon up to now. Every rank must call."""
    mine = list(bench.loaders.damaged())
    everyone = gather_json(mine, bench.at.world, bench.at.device)
    if found := sorted({name for names in everyone for name in names}):
        book.event(DamagedSamplesEvent(where=place, samples=tuple(found)))
