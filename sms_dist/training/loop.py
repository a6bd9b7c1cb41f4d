"""The training loop: every step of every epoch, with randomness that follows from addresses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from data.loader import Batch, Loader
from sms_dist.distributed.engines.base import Engine
from sms_dist.distributed.topology import Axis
from sms_dist.randomness import stream
from sms_dist.tasks.base import Task
from sms_dist.training.meter import Meter
from sms_dist.training.recovery import Keeper, Saved, section


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

    def resume(self, document: Mapping[str, Any]) -> None: ...

    def step(self, epoch: int, step: int, meter: Meter, num_samples: int) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...

    def facts(self) -> Mapping[str, Any]:
        """JSON for the next start, should this one be interrupted; it is part of the document."""


class Follower(Protocol):
    """Somebody who makes something of the weights after each epoch, and can go on with it later."""

    def after_epoch(self, epoch: int) -> None: ...

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: Mapping[str, Tensor]) -> None: ...


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
    keeper: Keeper,
    follower: Follower,
) -> list[Epoch]:
    """Train until the rates are used up, or stop after an epoch whose loss is not finite.

    Goes on from the last recovery point, if the keeper has one, with the same bits as if there had
    been no interruption. Every rank of the axis must call; all of them stop after the same epoch.
    """
    run = _Run(engine, job, axis, watcher, keeper, follower)
    run.resume()
    while run.num_epochs < len(job.rates) // job.loader.num_steps:
        run.epoch()
        if not math.isfinite(run.epochs[-1].loss):
            break
    keeper.finish()
    return run.epochs


class _Run:
    """A training under way: epochs that are done, and how far the next one is."""

    def __init__(
        self,
        engine: Engine,
        job: Training,
        axis: Axis,
        watcher: Watcher,
        keeper: Keeper,
        follower: Follower,
    ) -> None:
        self._engine, self._job, self._axis = engine, job, axis
        self._watcher, self._keeper, self._follower = watcher, keeper, follower
        self.epochs: list[Epoch] = []
        self._step = 0  # steps done of the epoch under way
        self._meter = self._new_meter()

    @property
    def num_epochs(self) -> int:
        return len(self.epochs)

    def resume(self) -> None:
        """Go on where the last recovery point was made. Every rank of the axis must call."""
        saved = self._keeper.last(self._engine.is_sharded)
        if saved is None:
            return
        document = saved.document
        everything = {**saved.shared, **saved.own}
        self._engine.restore(section(everything, "engine."))
        self._follower.restore(section(everything, "follower."))
        self.epochs = [Epoch(**epoch) for epoch in document["epochs"]]
        self._step = document["step"]
        if "meter" in saved.own:  # else other ranks than now have counted
            self._meter.totals.copy_(saved.own["meter"])
        self._watcher.resume(document)

    def epoch(self) -> None:
        """The rest of the epoch under way. Every rank of the axis must call."""
        number, rates = self.num_epochs, self._rates()
        for batch, rate in zip(self._batches(), rates[self._step :], strict=True):
            self._take(number, batch, rate)
        average = self._meter.average_over(self._axis)
        num_samples = self._job.loader.num_samples
        done = Epoch(number + 1, average.loss, average.accuracy, rates[-1], num_samples)
        self.epochs.append(done)
        self._step, self._meter = 0, self._new_meter()
        self._watcher.epoch(done)
        self._follower.after_epoch(number + 1)

    def _take(self, number: int, batch: Batch, rate: float) -> None:
        job, address = self._job, (self._job.phase, number, self._step, self._axis.rank)
        torch.manual_seed(stream(job.seed, f"{job.purpose} dropout", *address).key)
        self._engine.step(batch.inputs, batch.targets, batch.weight, rate, self._meter.loss)
        self._step += 1
        self._watcher.step(number + 1, self._step, self._meter, batch.size)
        self._keeper.after_step(self._steps, self._captured)

    def _batches(self) -> Iterator[Batch]:
        job, address = self._job, (self._job.phase, self.num_epochs)
        order = stream(job.seed, f"{job.purpose} order", *address)
        augmentation = stream(job.seed, f"{job.purpose} augmentation", *address)
        axis = self._axis
        return job.loader.epoch(order, augmentation, axis.rank, axis.size, self._step)

    def _rates(self) -> Sequence[float]:
        num_steps = self._job.loader.num_steps
        return self._job.rates[self.num_epochs * num_steps :][:num_steps]

    @property
    def _steps(self) -> int:
        """Steps done in all."""
        return self.num_epochs * self._job.loader.num_steps + self._step

    def _captured(self) -> Saved:
        shared = {f"follower.{name}": t for name, t in self._follower.state().items()}
        own = {"meter": self._meter.totals}
        engine = {f"engine.{name}": t for name, t in self._engine.state().items()}
        (own if self._engine.is_sharded else shared).update(engine)
        document = {
            "steps": self._steps,
            "step": self._step,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            **self._watcher.facts(),
        }
        return Saved(shared, own, document)

    def _new_meter(self) -> Meter:
        return Meter(self._job.task, self._job.label_smoothing, self._job.device)
