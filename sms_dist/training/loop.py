"""The training loop: every step of every epoch, with randomness that follows from addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from data.loader import Loader
from sms_dist.distributed.engines.base import Engine
from sms_dist.distributed.topology import Axis
from sms_dist.randomness import stream
from sms_dist.tasks.base import Task
from sms_dist.training.meter import Meter


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch; the averages are over all ranks that train the candidate."""

    epoch: int  # from 1
    loss: float
    accuracy: float
    learning_rate: float
    num_samples: int


class Watcher(Protocol):
    """Somebody who looks on; called on every rank, in no collective."""

    def step(self, epoch: int, step: int, meter: Meter, num_samples: int) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...


@dataclass(frozen=True)
class Training:
    """One training; (seed, purpose, phase) is the address of all its randomness."""

    loader: Loader
    rates: Sequence[float]  # of every step
    seed: int
    purpose: str
    phase: int
    label_smoothing: float
    task: Task
    device: torch.device


def train(
    engine: Engine,
    job: Training,
    axis: Axis,
    watcher: Watcher,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train until the rates are used up, or stop after an epoch whose loss is not finite.

    `after_epoch` is told the number of epochs done. Every rank of the axis must call; all of them
    stop after the same epoch.
    """
    num_steps = job.loader.num_steps
    epochs: list[Epoch] = []
    for epoch in range(len(job.rates) // num_steps):
        meter = Meter(job.task, job.label_smoothing, job.device)
        rates = job.rates[epoch * num_steps : (epoch + 1) * num_steps]
        _run_epoch(engine, job, epoch, rates, axis, meter, watcher)
        average = meter.average_over(axis)
        epochs.append(
            Epoch(epoch + 1, average.loss, average.accuracy, rates[-1], job.loader.num_samples)
        )
        watcher.epoch(epochs[-1])
        after_epoch(epoch + 1)
        if not average.is_finite:
            break
    return epochs


def _run_epoch(
    engine: Engine,
    job: Training,
    epoch: int,
    rates: Sequence[float],
    axis: Axis,
    meter: Meter,
    watcher: Watcher,
) -> None:
    address = (job.phase, epoch)
    order = stream(job.seed, f"{job.purpose} order", *address)
    augmentation = stream(job.seed, f"{job.purpose} augmentation", *address)
    batches = job.loader.epoch(order, augmentation, axis.rank, axis.size)
    for step, (batch, rate) in enumerate(zip(batches, rates, strict=True)):
        dropout = stream(job.seed, f"{job.purpose} dropout", *address, step, axis.rank)
        torch.manual_seed(dropout.key)
        engine.step(batch.inputs, batch.targets, batch.weight, rate, meter.loss)
        watcher.step(epoch + 1, step + 1, meter, batch.size)
