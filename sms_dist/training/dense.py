"""The dense weights: trained by all ranks as one data-parallel group, or loaded from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sms_dist.base import plain, safetensors_file, weights_file
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh.collectives import broadcast_state_
from sms_dist.mesh.topology import Axis, first_ranks
from sms_dist.models.sparse_start import finished
from sms_dist.models.weights import check_fits
from sms_dist.pruning.mask import Mask
from sms_dist.run.paths import HISTORY, KEPT
from sms_dist.run.schema import Epoch
from sms_dist.schedules.learning_rate import History, pretraining_rates
from sms_dist.soups.states import bare_state
from sms_dist.training.checkpoints import Checkpointer
from sms_dist.training.context import Context, State, full_precision
from sms_dist.training.loop import Training, Watcher, train, training_loss

DENSE = "dense"  # the folder of what was trained before the first phase
MAX_HISTORY = 1 << 25  # bytes: a rate for each of millions of steps


@dataclass(frozen=True)
class Dense:
    """Dense weights and how they were trained."""

    state: State
    history: History | None  # None: the rates are not recorded
    epochs: list[Epoch]
    kept: State | None = None  # after the epoch that the recipe keeps
    mask: Mask | None = None  # what is pruned already, and stays so


def pretrain(
    context: Context, watcher: Watcher, make_checkpointer: Callable[[Axis], Checkpointer]
) -> Dense:
    """Train the model from its initial weights. Every rank must call, also one that does not train.

    `make_checkpointer` is called with the axis of the ranks that train.
    """
    mesh, recipe, config = context.mesh, context.recipe, context.config
    loader, pretrain = context.loaders.train, context.recipe.pretrain
    rates = pretraining_rates(pretrain.curve, loader.num_steps)
    history = History(tuple(rates), pretrain.epochs) if rates else None
    axis = first_ranks(mesh, context.pretrain_ranks)
    model = context.new_model()
    state, kept = _copy(bare_state(model)), _copy(bare_state(model))
    epochs: list[Epoch] = []
    if axis is not None and recipe.dense_epochs:
        optimizer, size = optimizer_settings(pretrain), config.data.batch_size
        engine = make_engine(Job(model, Mask({}), axis, mesh, config.engine, optimizer, size))
        follower = KeptEpoch(recipe.kept_epoch, engine.weights)
        training = Training(
            engine=engine,
            loader=loader,
            rates=rates[: recipe.dense_epochs * loader.num_steps],
            loss=training_loss(context),
            seed=config.seed,
            purpose="pretrain",
            phase=0,
            axis=axis,
            device=mesh.device,
            watcher=watcher,
            checkpointer=make_checkpointer(axis),
            follower=follower,
        )
        epochs = train(training)
        state |= engine.weights()
        kept |= context.on_device(follower.weights)
        engine.close()
    mesh.control.meet()
    state, kept = full_precision(state), full_precision(kept)
    broadcast_state_(state, mesh.world)
    if recipe.kept_epoch is None:
        return Dense(state, history, epochs)
    broadcast_state_(kept, mesh.world)
    return Dense(state, history, epochs, kept)


class KeptEpoch:
    """A follower that keeps the weights after one epoch."""

    def __init__(self, epoch: int | None, weights: Callable[[], State]) -> None:
        """Keep what `weights` returns after `epoch`; every rank of the axis must call it."""
        self._epoch, self._weights = epoch, weights
        self.weights: State = {}

    def after_epoch(self, epoch: int) -> None:
        """Keep the weights if this is the epoch. Every rank of the axis must call."""
        if epoch == self._epoch:
            self.weights = self._weights()

    def state(self) -> State:
        return self.weights

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.weights = dict(state)


def _copy(state: State) -> State:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def given_history(context: Context) -> History | None:
    """Return how the weights that `pretrain.from` names were trained.

    ValueError if their history is damaged, or they lack the weights that the recipe rewinds to.
    """
    source = context.config.pretrain.from_
    assert source is not None
    folder = _pretraining(weights_file.find(source, f"pretrain.from={source}"))
    _kept(context, folder)
    return _history(context, folder / HISTORY)


def _pretraining(file: Path) -> Path:
    """Return the folder of the history of weights: beside them, or in dense/ of their run."""
    phase = file.parents[1]
    return phase.parent / DENSE if phase.name.startswith("phase_") else file.parent


def load_dense(context: Context) -> Dense:
    """Return the weights that `pretrain.from` names; ValueError if they do not fit the model."""
    model = context.new_model()
    given = finished(context.config, model, context.weights)
    folder = _pretraining(given.file)
    return Dense(
        state=context.on_device(full_precision(bare_state(model) | given.state)),
        history=_history(context, folder / HISTORY),
        epochs=[],
        kept=_kept(context, folder),
        mask=None if given.mask is None else Mask(context.on_device({**given.mask})),
    )


def _kept(context: Context, folder: Path) -> State | None:
    """Return the weights of the epoch that the recipe rewinds to; ValueError without them."""
    wanted = context.recipe.kept_epoch
    if wanted is None:
        return None
    document = _document(folder / HISTORY)
    if (epoch := (document or {}).get("kept_epoch")) != wanted:
        has = "none" if epoch is None else f"those of epoch {epoch}"
        raise ValueError(
            f"pretrain.from={folder}: method.name={context.config.method.name} rewinds to the "
            f"weights of epoch {wanted}, and it kept {has}; pretrain it with pretrain.keep_epoch="
            f"{wanted}"
        )
    place = f"pretrain.from={folder / KEPT}"
    kept, _ = safetensors_file.read(folder / KEPT, place)
    check_fits(place, kept, bare_state(context.new_model()), context.config.model.name)
    return context.on_device(full_precision(kept))


def _history(context: Context, file: Path) -> History | None:
    config = context.config.pretrain
    document = _document(file)
    if document is not None:
        return History(tuple(document["rates"]), document["epochs"])
    if config.history == "recorded":
        return None
    rates = pretraining_rates(config.curve, context.loaders.train.num_steps)
    if not rates:
        raise ValueError("pretrain.history=config needs pretrain.epochs above 0")
    return History(tuple(rates), config.epochs)


def _document(file: Path) -> dict[str, Any] | None:
    """Return how the weights beside it were pretrained; None if there is no such file."""
    if not file.is_file():
        return None
    document = plain.read_object(file, MAX_HISTORY)
    rates, epochs = document.get("rates"), document.get("epochs")
    is_sound = isinstance(rates, list) and all(type(rate) in (int, float) for rate in rates)
    if not is_sound or type(epochs) is not int or not 0 <= epochs <= len(rates or ()):
        raise ValueError(
            f"{file} is damaged; copy it again, or remove it and set pretrain.history=config"
        )
    return document
