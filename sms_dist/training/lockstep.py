"""Trainings of a pack side by side: each step is taken by all who are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from sms_dist.engines.packed import PackedEngine, PackedPlace, Share
from sms_dist.mesh.control import Stopped
from sms_dist.training.loop import Run

Runs = Mapping[int, Run[PackedPlace]]  # by place


def train_together(engine: PackedEngine, runs: Runs) -> Iterator[int]:
    """Train all of them, each from its last recovery point on; gives each place as it ends.

    Stopped as soon as all have left a recovery point, if that is wanted.
    """
    for run in runs.values():
        run.resume()
    going, is_stopped = dict(runs), False
    while going:
        for place, run in list(going.items()):
            if run.is_over:
                del going[place]
                run.keeper.finish()
                if not is_stopped:
                    yield place
        for place in _step(engine, going):
            del going[place]
            is_stopped = True
    if is_stopped:
        raise Stopped


def _step(engine: PackedEngine, runs: Runs) -> list[int]:
    """A step of those that are furthest behind; the places that have stopped after it."""
    step = min((run.num_steps for run in runs.values()), default=0)
    taking = {place: run for place, run in runs.items() if run.num_steps == step}
    if not taking:
        return []
    drawn = {place: run.draw() for place, run in taking.items()}
    shares = {
        place: Share(batch.inputs, batch.targets, batch.weight, rate)
        for place, (batch, rate) in drawn.items()
    }
    meters = {place: run.meter for place, run in taking.items()}
    seen = engine.step(step, shares, next(iter(meters.values())).seen)
    torch._foreach_add_([meter.totals for meter in meters.values()], [seen[p] for p in meters])
    stopped = []
    for place, run in taking.items():
        try:
            run.took(drawn[place][0])
        except Stopped:
            stopped.append(place)
    return stopped
