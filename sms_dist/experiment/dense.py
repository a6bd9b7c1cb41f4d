"""The dense model: pretrained, taken from a file, or found in the run folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import torch

from sms_dist.experiment.begin import stored_mask
from sms_dist.mesh.collectives import from_first, gather_json, together
from sms_dist.pruning.mask import Mask
from sms_dist.run import store
from sms_dist.run.checkpoint_files import forget
from sms_dist.run.journal import DamagedSamplesEvent, DenseEvent
from sms_dist.run.logbook import GroupWatcher, Logbook
from sms_dist.run.paths import HISTORY, KEPT, MASK, METRICS, WEIGHTS
from sms_dist.run.schema import DenseMetrics
from sms_dist.schedules.learning_rate import History
from sms_dist.training.checkpoints import checkpointer
from sms_dist.training.context import Context, State
from sms_dist.training.dense import DENSE, load_dense, pretrain
from sms_dist.training.evaluation import measured


@dataclass(frozen=True)
class DenseModel:
    state: State
    history: History | None
    metrics: DenseMetrics
    kept: State | None = None  # the weights of an earlier epoch
    mask: Mask | None = None  # what is pruned already, and stays so


def dense_model(context: Context, log: Logbook) -> DenseModel:
    """The dense model, the same bits on all ranks. Every rank must call."""
    folder = log.paths.dense
    is_stored = from_first(
        lambda: store.is_complete(folder), context.mesh.world, context.mesh.device
    )
    dense = _stored(context, log) if is_stored else _made_and_stored(context, log)
    score = dense.metrics.test(context.task.score)
    if log.board and dense.metrics.is_trained and score is not None:
        log.board.dense(score)
    return dense


def _made_and_stored(context: Context, log: Logbook) -> DenseModel:
    made = _made(context, log)
    documents = {METRICS: made.metrics.as_json()}
    if made.history is not None:
        documents[HISTORY] = asdict(made.history) | {"kept_epoch": context.recipe.kept_epoch}
    tensors = {WEIGHTS: made.state} | ({} if made.kept is None else {KEPT: made.kept})
    if made.mask is not None:
        tensors[MASK] = {**made.mask}
    if log.is_main:
        store.save(log.paths.dense, tensors, documents)
        forget(log.paths.recovery(DENSE))
    log.event(DenseEvent(metrics=made.metrics))
    log_damaged(context, log, "pretraining")
    return made


def _made(context: Context, log: Logbook) -> DenseModel:
    recipe, mesh = context.recipe, context.mesh
    watcher: GroupWatcher | None
    log.set_stage("pretrain")
    context.mesh.control.set_place("pretraining")
    if recipe.pretrain.from_ is None:
        num_steps = context.loaders.train.num_steps
        watcher = log.watcher("dense", recipe.dense_epochs, num_steps, speaks=log.is_main)
        dense = pretrain(context, watcher, partial(checkpointer, context, log.paths, DENSE))
        watcher.close()
    else:
        watcher = None
        dense = together(lambda: load_dense(context), mesh.world, mesh.device)
    # A buffer may hold anything, such as a mask of minus infinity.
    if not all(bool(torch.isfinite(dense.state[name]).all()) for name in context.parameters):
        raise ValueError(
            "the dense weights are not finite: pretraining diverged; lower pretrain.learning_rate "
            "or set pretrain.clip_norm"
        )
    state, metrics = measured(context, dense.state, mesh.world, log.set_stage)
    record = DenseMetrics(
        metrics=dict(metrics),
        sparsity=None if dense.mask is None else dense.mask.sparsity,
        epochs_trained=recipe.dense_epochs,
        epochs_total=recipe.pretrain.epochs,
        epochs=tuple(dense.epochs),
        seconds=watcher.seconds if watcher else None,
        resumed_at=(tuple(watcher.resumed_at) or None) if watcher else None,
    )
    return DenseModel(state, dense.history, record, dense.kept, dense.mask)


def _stored(context: Context, log: Logbook) -> DenseModel:
    folder, history = log.paths.dense, None
    if (folder / HISTORY).is_file():
        document = store.load_document(folder, HISTORY)
        history = History(tuple(document["rates"]), document["epochs"])
    state = context.on_device(store.load_tensors(folder, WEIGHTS))
    kept = None
    if context.recipe.kept_epoch is not None:
        kept = context.on_device(store.load_tensors(folder, KEPT))
    record, mask = store.load_record(folder, METRICS, DenseMetrics), stored_mask(folder)
    if mask is not None:
        mask = Mask(context.on_device({name: mask[name] for name in context.prunable}))
    return DenseModel(state, history, record, kept, mask)


def log_damaged(context: Context, log: Logbook, place: str) -> None:
    """Write the names of the damaged samples that ranks have left out. Every rank must call."""
    mine = list(context.loaders.damaged())
    everyone = gather_json(mine, context.mesh.world, context.mesh.device)
    if names := sorted({name for each in everyone for name in each}):
        log.event(DamagedSamplesEvent(where=place, samples=tuple(names)))
