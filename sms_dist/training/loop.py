"""The training loop: every step of every epoch, with randomness that follows from addresses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from sms_dist.base.lookup import guarded, own
from sms_dist.base.randomness import stream
from sms_dist.data.loader import Batch, Loader
from sms_dist.engines.base import Engine, Trainable
from sms_dist.engines.state import joined, part
from sms_dist.mesh.collectives import sum_
from sms_dist.mesh.topology import Axis
from sms_dist.run.schema import Epoch
from sms_dist.tasks.base import Outputs, Task
from sms_dist.training.checkpoints import Checkpoint, Checkpointer
from sms_dist.training.context import Context

AnyTrainable = TypeVar("AnyTrainable", bound=Trainable)
OwnLoss = Callable[[Any, Tensor], Tensor]  # (outputs, targets) -> their mean, or all of them


class Watcher(Protocol):
    """An observer of a training. It is called on every rank, and takes part in no collective."""

    def resume(self, document: Mapping[str, Any]) -> None: ...

    def step(self, epoch: int, step: int, meter: Meter, num_samples: int) -> None: ...

    def epoch(self, epoch: Epoch) -> None: ...

    def facts(self) -> Mapping[str, Any]:
        """Return JSON for the next start, should this one be interrupted; checkpoints keep it."""


class Follower(Protocol):
    """Computes something from the weights as they train; its state is part of checkpoints."""

    def after_update(self) -> None: ...

    def after_epoch(self, epoch: int) -> None: ...

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, state: Mapping[str, Tensor]) -> None: ...


def own_loss(name: str | None) -> OwnLoss | None:
    """Return the loss `package.module:function` of pretrain.loss; None for that of the task."""
    if name is None:
        return None
    field = "pretrain.loss"
    given = own(name, field)
    loss: OwnLoss = guarded(given, name, field)() if isinstance(given, type) else given
    return loss


@dataclass(frozen=True)
class TrainingLoss:
    """The loss of a training, which also counts: a pure function, so that vmap can map it."""

    task: Task
    label_smoothing: float = 0.0
    own: OwnLoss | None = None

    def __call__(self, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss, and [4] float64: loss, right predictions, predictions, weight."""
        value = self._summed(outputs, targets)
        right, count = self.task.correct(outputs, targets)
        weight = self.task.weight(targets)
        if not isinstance(weight, Tensor):
            weight = torch.full_like(count, weight)  # filled on the device: nothing waits
        return value, torch.stack([x.double() for x in (value.detach(), right, count, weight)])

    def _summed(self, outputs: Outputs, targets: Tensor) -> Tensor:
        if self.own is None:
            return self.task.loss(outputs, targets, self.label_smoothing)
        value = self.own(outputs, targets)
        return value.sum() if value.dim() else value * self.task.weight(targets)


def training_loss(context: Context) -> TrainingLoss:
    """Return the loss that the configuration asks for, in pretraining and in retraining."""
    pretrain = context.config.pretrain
    return TrainingLoss(context.task, pretrain.label_smoothing, own_loss(pretrain.loss))


class Average(NamedTuple):
    """Means over what a loss is divided by, and over predictions."""

    loss: float
    accuracy: float


class Meter:
    """Adds up what a loss counts; its totals stay on the device until they are asked for."""

    def __init__(self, loss: TrainingLoss, device: torch.device) -> None:
        self.counted_loss = loss
        self.totals = torch.zeros(4, dtype=torch.float64, device=device)

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Return the summed loss, and count."""
        value, counts = self.counted_loss(outputs, targets)
        self.totals += counts
        return value

    def average(self) -> Average:
        """Return the means over this rank's samples."""
        return _average(self.totals)

    def average_over(self, axis: Axis) -> Average:
        """Return the means over the samples of all ranks. Every rank of the axis must call."""
        return _average(sum_(self.totals.clone(), axis))


def _average(totals: Tensor) -> Average:
    loss, right, count, weight = totals.tolist()
    return Average(loss / max(weight, 1), right / max(count, 1))


@dataclass
class Training(Generic[AnyTrainable]):
    """One training, taken step by step: by `train`, or beside others in a stack.

    (seed, purpose, phase) is the address of all its randomness. Every rank of the axis must call
    every method.
    """

    engine: AnyTrainable
    loader: Loader
    rates: Sequence[float]  # of every step
    loss: TrainingLoss
    seed: int
    purpose: str
    phase: int
    axis: Axis
    device: torch.device
    watcher: Watcher
    checkpointer: Checkpointer
    follower: Follower
    epochs: list[Epoch] = field(default_factory=list)  # those that are done
    meter: Meter = field(init=False)
    _step: int = 0  # steps done of the current epoch
    _batches: Iterator[Batch] | None = None  # the rest of it

    def __post_init__(self) -> None:
        self.meter = Meter(self.loss, self.device)

    @property
    def num_steps(self) -> int:
        """Return the steps done in all."""
        return len(self.epochs) * self.loader.num_steps + self._step

    @property
    def is_over(self) -> bool:
        """Return True if the rates are used up, or the loss of the last epoch was not finite."""
        if self.epochs and not math.isfinite(self.epochs[-1].loss):
            return True
        return len(self.epochs) >= len(self.rates) // self.loader.num_steps

    def resume(self) -> None:
        """Continue from the last checkpoint, if there is one, with the same bits."""
        checkpoint = self.checkpointer.last(self.engine.is_sharded)
        if checkpoint is None:
            return
        document = checkpoint.document
        tensors = {**checkpoint.shared, **checkpoint.own}
        self.engine.restore(part(tensors, "engine"))
        self.follower.restore(part(tensors, "follower"))
        self.epochs = [Epoch.model_validate(epoch) for epoch in document["epochs"]]
        self._step = document["step"]
        if "meter" in checkpoint.own:  # else another number of ranks has counted
            self.meter.totals.copy_(checkpoint.own["meter"])
        self.watcher.resume(document)
        self._end_epoch_if_done()  # the checkpoint may lie between its last step and its end

    def seed_layers(self) -> None:
        """Give what the model draws in the next step, such as dropout, its address."""
        address = (self.phase, len(self.epochs), self._step, self.axis.rank)
        stream(self.seed, f"{self.purpose} dropout", *address).seed_layers(self.device)

    def draw(self) -> tuple[Batch, float]:
        """Return this rank's share of the next step, and its rate."""
        if self._batches is None:
            self._batches = self._rest_of_epoch()
        return next(self._batches), self.rates[self.num_steps]

    def after_step(self, batch: Batch) -> None:
        """Count a step that the engine has taken; raise Stopped if the run is to stop."""
        self._step += 1
        self.follower.after_update()
        self.watcher.step(len(self.epochs) + 1, self._step, self.meter, batch.size)
        self.checkpointer.after_step(self.num_steps, self._checkpoint)
        self._end_epoch_if_done()

    def _end_epoch_if_done(self) -> None:
        if self._step < self.loader.num_steps:
            return
        assert next(self._batches or iter(()), None) is None, "batches are left of the epoch"
        number, average = len(self.epochs) + 1, self.meter.average_over(self.axis)
        done = Epoch(
            epoch=number,
            loss=average.loss,
            accuracy=average.accuracy,
            learning_rate=self.rates[self.num_steps - 1],
            num_samples=self.loader.num_samples,
        )
        self.epochs.append(done)
        self._step, self._batches, self.meter = 0, None, Meter(self.loss, self.device)
        self.watcher.epoch(done)
        self.follower.after_epoch(number)

    def _rest_of_epoch(self) -> Iterator[Batch]:
        address = (self.phase, len(self.epochs))
        order = stream(self.seed, f"{self.purpose} order", *address)
        augmentation = stream(self.seed, f"{self.purpose} augmentation", *address)
        return self.loader.epoch(order, augmentation, self.axis.rank, self.axis.size, self._step)

    def _checkpoint(self) -> Checkpoint:
        shared = joined({"follower": self.follower.state()})
        own = {"meter": self.meter.totals}
        (own if self.engine.is_sharded else shared).update(joined({"engine": self.engine.state()}))
        document = {
            "steps": self.num_steps,
            "step": self._step,
            "epochs": [epoch.as_json() for epoch in self.epochs],
            **self.watcher.facts(),
        }
        return Checkpoint(shared, own, document)


def train(training: Training[Engine]) -> list[Epoch]:
    """Take the steps that are left of a training, from its last checkpoint on; return its epochs.

    It ends when the rates are used up, or after an epoch whose loss is not finite. Every rank of
    the axis must call; all of them end after the same epoch.
    """
    training.resume()
    while not training.is_over:
        batch, rate = training.draw()
        training.seed_layers()
        training.engine.step(batch.inputs, batch.targets, batch.weight, rate, training.meter.loss)
        training.after_step(batch)
    training.checkpointer.finish()
    return training.epochs
