"""The training loop: every step of every epoch, with randomness that follows from addresses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from sms_dist.base.randomness import stream
from sms_dist.data.loader import Batch, Loader
from sms_dist.engines.base import Engine, Holder
from sms_dist.mesh.topology import Axis
from sms_dist.run.schema import Epoch
from sms_dist.tasks.base import Task
from sms_dist.training.meter import Meter, OwnLoss
from sms_dist.training.recovery import Keeper, Saved, section

AnyHolder = TypeVar("AnyHolder", bound=Holder)


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
    own_loss: OwnLoss | None = None


@dataclass
class Run(Generic[AnyHolder]):
    """A training under way, taken step by step from outside: by `train`, or with others beside it.

    Every rank of the axis must call every method.
    """

    engine: AnyHolder
    job: Training
    axis: Axis
    watcher: Watcher
    keeper: Keeper
    follower: Follower
    epochs: list[Epoch] = field(default_factory=list)  # those that are done
    meter: Meter = field(init=False)
    _step: int = 0  # steps done of the epoch under way
    _batches: Iterator[Batch] | None = None  # those that are left of it

    def __post_init__(self) -> None:
        self.meter = self._new_meter()

    @property
    def num_steps(self) -> int:
        """Steps done in all."""
        return len(self.epochs) * self.job.loader.num_steps + self._step

    @property
    def is_over(self) -> bool:
        """Are the rates used up, or was the loss of the last epoch not finite?"""
        if self.epochs and not math.isfinite(self.epochs[-1].loss):
            return True
        return len(self.epochs) >= len(self.job.rates) // self.job.loader.num_steps

    def resume(self) -> None:
        """Go on where the last recovery point was made, if there is one; with the same bits."""
        saved = self.keeper.last(self.engine.is_sharded)
        if saved is None:
            return
        document = saved.document
        everything = {**saved.shared, **saved.own}
        self.engine.restore(section(everything, "engine."))
        self.follower.restore(section(everything, "follower."))
        self.epochs = [Epoch.model_validate(epoch) for epoch in document["epochs"]]
        self._step = document["step"]
        if "meter" in saved.own:  # else other ranks than now have counted
            self.meter.totals.copy_(saved.own["meter"])
        self.watcher.resume(document)
        self._end_epoch_if_done()  # the point may lie between its last step and its end

    def seed(self) -> None:
        """What the model draws in the next step, such as dropout, follows from its address."""
        job, address = self.job, (self.job.phase, len(self.epochs), self._step, self.axis.rank)
        stream(job.seed, f"{job.purpose} dropout", *address).seed_layers(job.device)

    def draw(self) -> tuple[Batch, float]:
        """My share of the next step, and its rate."""
        if self._batches is None:
            self._batches = self._rest_of_epoch()
        return next(self._batches), self.job.rates[self.num_steps]

    def took(self, batch: Batch) -> None:
        """The engine has taken the step of what was drawn last. Stopped, if that is wanted."""
        self._step += 1
        self.watcher.step(len(self.epochs) + 1, self._step, self.meter, batch.size)
        self.keeper.after_step(self.num_steps, self._captured)
        self._end_epoch_if_done()

    def _end_epoch_if_done(self) -> None:
        if self._step < self.job.loader.num_steps:
            return
        assert next(self._batches or iter(()), None) is None, "batches are left of the epoch"
        number, job = len(self.epochs) + 1, self.job
        average = self.meter.average_over(self.axis)
        rate = job.rates[self.num_steps - 1]
        done = Epoch(
            epoch=number,
            loss=average.loss,
            accuracy=average.accuracy,
            learning_rate=rate,
            num_samples=job.loader.num_samples,
        )
        self.epochs.append(done)
        self._step, self._batches, self.meter = 0, None, self._new_meter()
        self.watcher.epoch(done)
        self.follower.after_epoch(number)

    def _rest_of_epoch(self) -> Iterator[Batch]:
        job, axis, address = self.job, self.axis, (self.job.phase, len(self.epochs))
        order = stream(job.seed, f"{job.purpose} order", *address)
        augmentation = stream(job.seed, f"{job.purpose} augmentation", *address)
        return job.loader.epoch(order, augmentation, axis.rank, axis.size, self._step)

    def _captured(self) -> Saved:
        shared = {f"follower.{name}": t for name, t in self.follower.state().items()}
        own = {"meter": self.meter.totals}
        engine = {f"engine.{name}": t for name, t in self.engine.state().items()}
        (own if self.engine.is_sharded else shared).update(engine)
        document = {
            "steps": self.num_steps,
            "step": self._step,
            "epochs": [epoch.as_json() for epoch in self.epochs],
            **self.watcher.facts(),
        }
        return Saved(shared, own, document)

    def _new_meter(self) -> Meter:
        return Meter(self.job.task, self.job.label_smoothing, self.job.device, self.job.own_loss)


def train(run: Run[Engine]) -> list[Epoch]:
    """Take the steps that are left of a training, from its last recovery point on.

    Until the rates are used up, or after an epoch whose loss is not finite. Every rank of the axis
    must call; all of them stop after the same epoch.
    """
    run.resume()
    while not run.is_over:
        batch, rate = run.draw()
        run.seed()
        run.engine.step(batch.inputs, batch.targets, batch.weight, rate, run.meter.loss)
        run.took(batch)
    run.keeper.finish()
    return run.epochs
