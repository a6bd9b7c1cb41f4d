"""Retraining a stack: each step is taken by all candidates that have got equally far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from sms_dist.mesh.control import Stopped
from sms_dist.methods.phases import Candidate
from sms_dist.stacks import Stack
from sms_dist.stacks.engine import StackEngine, StackPlace
from sms_dist.training.checkpoints import Checkpointer
from sms_dist.training.context import Context
from sms_dist.training.loop import Training, Watcher
from sms_dist.training.retrain import CandidateTraining, Retrained, Start

Trainings = Mapping[int, Training[StackPlace]]  # by place


def stack_lengths(context: Context, stack: Stack) -> list[int]:
    """Return the steps that a training at each place takes."""
    num_steps = context.loaders.train.num_steps
    return [candidate.retrain.epochs * num_steps for candidate in stack.places]


def retrain_stack(
    context: Context,
    stack: Stack,
    starts: Mapping[int, Start],
    watchers: Mapping[int, Watcher],
    checkpointers: Mapping[int, Checkpointer],
) -> Iterator[tuple[Candidate, Retrained]]:
    """Train the candidates that have a start, all by index; yield each as soon as it ends.

    Stopped is raised once all of them have a checkpoint. A group of one rank calls.
    """
    if not starts:
        return
    candidates = {
        place: CandidateTraining(context, starts[candidate.index], candidate)
        for place, candidate in enumerate(stack.places)
        if candidate.index in starts
    }
    places = range(len(stack.places))
    jobs = [candidates[place].job if place in candidates else None for place in places]
    engine = StackEngine(jobs, stack_lengths(context, stack))
    trainings = {}
    for place, own in candidates.items():
        i = stack.places[place].index
        trainings[place] = own.begin(engine.place(place), watchers[i], checkpointers[i])
    for place in train_together(engine, trainings):
        yield stack.places[place], candidates[place].result()


def train_together(engine: StackEngine, trainings: Trainings) -> Iterator[int]:
    """Train all places, each from its last checkpoint on; yield each place as it ends.

    Raises Stopped, if that is wanted, as soon as all have a checkpoint.
    """
    for training in trainings.values():
        training.resume()
    going, is_stopped = dict(trainings), False
    while going:
        for place, training in list(going.items()):
            if training.is_over:
                del going[place]
                training.checkpointer.finish()
                if not is_stopped:
                    yield place
        for place in _step(engine, going):
            del going[place]
            is_stopped = True
    if is_stopped:
        raise Stopped


def _step(engine: StackEngine, trainings: Trainings) -> list[int]:
    """Take a step of those that are furthest behind; return the places that stop after it."""
    step = min((training.num_steps for training in trainings.values()), default=0)
    taking = {place: each for place, each in trainings.items() if each.num_steps == step}
    if not taking:
        return []
    drawn = {place: training.draw() for place, training in taking.items()}
    counts = engine.step(step, drawn, next(iter(taking.values())).loss)
    totals = [training.meter.totals for training in taking.values()]
    torch._foreach_add_(totals, [counts[place] for place in taking])
    stopped = []
    for place, training in taking.items():
        try:
            training.after_step(drawn[place][0])
        except Stopped:
            stopped.append(place)
    return stopped
