"""Training the dense model: all ranks as one data-parallel group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.mesh.collectives import broadcast_state_
from sms_dist.mesh.topology import Axis, first_ranks
from sms_dist.models.weights import bare_state
from sms_dist.run.schema import Epoch
from sms_dist.schedules.learning_rate import History, pretraining_rates
from sms_dist.training.context import Context, State, full_precision
from sms_dist.training.loop import Run, Training, Watcher, train
from sms_dist.training.meter import own_loss
from sms_dist.training.recovery import Keeper


@dataclass(frozen=True)
class Dense:
    """Dense weights and how they were trained."""

    state: State
    history: History | None  # None: not known
    epochs: list[Epoch]
    kept: State | None = None  # as it was after the epoch that the recipe wants kept


def pretrain(context: Context, watcher: Watcher, make_keeper: Callable[[Axis], Keeper]) -> Dense:
    """Train the model from its initial weights. Every rank must call, also those that look on.

    `make_keeper`: of recovery points by the ranks of the axis that train.
    """
    mesh, recipe = context.mesh, context.recipe
    num_steps = context.loaders.train.num_steps
    rates = pretraining_rates(recipe.pretrain.curve, num_steps)
    history = History(tuple(rates), recipe.pretrain.epochs) if rates else None
    axis = first_ranks(mesh, context.pretrain_ranks)
    model = context.new_model()
    state, kept = _copy(bare_state(model)), _copy(bare_state(model))
    epochs: list[Epoch] = []
    if axis is not None and recipe.dense_epochs:
        rates = rates[: recipe.dense_epochs * num_steps]
        keeper = make_keeper(axis)
        weights, at_epoch, epochs = _trained(context, model, rates, axis, watcher, keeper)
        state, kept = state | weights, kept | at_epoch
    mesh.control.meet()
    state, kept = full_precision(state), full_precision(kept)
    broadcast_state_(state, mesh.world)
    if recipe.kept_epoch is None:
        return Dense(state, history, epochs)
    broadcast_state_(kept, mesh.world)
    return Dense(state, history, epochs, kept)


class Kept:
    """The weights after one epoch."""

    def __init__(self, epoch: int | None, weights: Callable[[], State]) -> None:
        """`weights` gives the present ones; every rank of the axis must call it."""
        self._epoch, self._weights = epoch, weights
        self.weights: State = {}

    def after_epoch(self, epoch: int) -> None:
        """Every rank of the axis must call."""
        if epoch == self._epoch:
            self.weights = self._weights()

    def state(self) -> State:
        return self.weights

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.weights = dict(state)


def _trained(
    context: Context,
    model: nn.Module,
    rates: list[float],
    axis: Axis,
    watcher: Watcher,
    keeper: Keeper,
) -> tuple[State, State, list[Epoch]]:
    """The weights at the end, those after the epoch to keep (if it is not the start), the epochs.

    Every rank of the axis must call.
    """
    config, pretrain = context.config, context.recipe.pretrain
    batch = config.data.batch_size
    engine = make_engine(Job(model, {}, axis, context.mesh, config.engine, pretrain, batch))
    kept = Kept(context.recipe.kept_epoch, engine.weights)
    training = Training(
        loader=context.loaders.train,
        rates=rates,
        seed=config.seed,
        purpose="pretrain",
        phase=0,
        label_smoothing=pretrain.label_smoothing,
        task=context.task,
        device=context.mesh.device,
        own_loss=own_loss(pretrain.loss),
    )
    epochs = train(Run(engine, training, axis, watcher, keeper, kept))
    weights = engine.weights()
    engine.close()
    return weights, context.on_device(kept.weights), epochs


def _copy(state: State) -> State:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
