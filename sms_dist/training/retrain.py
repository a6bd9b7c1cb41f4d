"""One candidate's retraining, from where its phase starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic

import torch
from torch import nn

from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.packed import PackedEngine, PackedPlace
from sms_dist.mesh.collectives import sum_
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.models.weights import bare_state
from sms_dist.pruning.allocation import num_kept
from sms_dist.pruning.mask import Mask, num_weights
from sms_dist.run.schema import Epoch
from sms_dist.schedules.learning_rate import History
from sms_dist.soups.vector import SurvivingVector
from sms_dist.sparse_rules import make_rule
from sms_dist.sparse_rules.base import Rule, Setup
from sms_dist.training.averaging import Average
from sms_dist.training.context import Context, State
from sms_dist.training.lockstep import train_together
from sms_dist.training.loop import AnyHolder, Run, Training, Watcher, train
from sms_dist.training.meter import own_loss
from sms_dist.training.rates import candidate_rates
from sms_dist.training.recovery import Keeper


@dataclass(frozen=True)
class Start:
    """Where a candidate starts: pruned weights and their mask; under a sparse training rule the
    dense weights, and a mask that keeps everything."""

    phase: Phase
    state: State
    mask: Mask
    held: Mask  # the mask, and what else is zero with it (biases of dead filters)
    history: History | None
    distance: float  # how far pruning moved the weights (ALLR)
    vector: SurvivingVector | None = None  # of the mask, if all candidates share it


StartOf = Callable[[Candidate], Start | None]  # None: it diverged in an earlier phase


@dataclass(frozen=True)
class Retrained:
    state: State  # pruned
    mask: Mask
    epochs: list[Epoch]
    is_finite: bool
    latent: State | None = None  # the dense weights behind, where the rule goes on with them

    @property
    def trained(self) -> State:
        """What is averaged."""
        return self.state if self.latent is None else self.latent


@dataclass(frozen=True)
class Prepared:
    """All that a candidate's training is made of."""

    start: Start
    candidate: Candidate
    job: Job
    training: Training
    before: State


@dataclass(frozen=True)
class Retraining(Generic[AnyHolder]):
    """A candidate's training under way."""

    prepared: Prepared
    run: Run[AnyHolder]
    average: Average


def retrain(
    context: Context, start: Start, candidate: Candidate, watcher: Watcher, keeper: Keeper
) -> Retrained:
    """Train one candidate on my group. Every rank of the group must call; no other takes part."""
    prepared = prepare(context, start, candidate)
    under_way = begin(prepared, make_engine(prepared.job), watcher, keeper)
    train(under_way.run)
    return outcome(context, under_way)


def retrain_together(
    engine: PackedEngine, context: Context, pack: Mapping[int, Retraining[PackedPlace]]
) -> Iterator[tuple[int, Retrained]]:
    """Train those at these places of a pack; gives each as soon as it ends."""
    for place in train_together(engine, {place: each.run for place, each in pack.items()}):
        yield place, outcome(context, pack[place])


def prepare(context: Context, start: Start, candidate: Candidate) -> Prepared:
    model = context.load(start.state)
    before = {name: tensor.clone() for name, tensor in bare_state(model).items()}
    training = _training(context, start, candidate)
    job = _job(context, start, candidate, model, _rule(start, model, training))
    return Prepared(start, candidate, job, training, before)


def begin(
    prepared: Prepared, engine: AnyHolder, watcher: Watcher, keeper: Keeper
) -> Retraining[AnyHolder]:
    average = Average(prepared.candidate.retrain, engine.weights)
    axis = prepared.job.axis
    run = Run(engine, prepared.training, axis, watcher, keeper, average)
    return Retraining(prepared, run, average)


def outcome(context: Context, ended: Retraining[AnyHolder]) -> Retrained:
    """What has become of the candidate; ends the engine. Every rank of the group must call."""
    start, rule, epochs = ended.prepared.start, ended.prepared.job.rule, ended.run.epochs
    state = ended.prepared.before | ended.average.result()
    ended.run.engine.close()
    if not _is_finite(context, state, epochs):
        return Retrained(state, start.mask, epochs, is_finite=False)
    if rule is None:
        assert_masked(state, start.held)
        return Retrained(state, start.mask, epochs, is_finite=True)
    weights, mask = rule.finish({name: state[name] for name in start.mask})
    latent = state if start.phase.keeps_latent else None
    return Retrained(state | dict(weights), mask, epochs, True, latent)


def assert_masked(state: State, mask: Mask) -> None:
    """Pruned weights are exactly zero: the promise of every engine and rule."""
    for name, kept in mask.items():
        assert not torch.count_nonzero(state[name][~kept]), f"{name} has pruned weights that moved"


def _job(
    context: Context, start: Start, candidate: Candidate, model: nn.Module, rule: Rule | None
) -> Job:
    config, optimizer = context.config, context.recipe.pretrain
    decay = candidate.retrain.weight_decay
    if decay is not None:
        optimizer = optimizer.model_copy(update={"weight_decay": decay})
    batch = config.data.batch_size
    return Job(
        model, start.held, context.mesh.data, context.mesh, config.engine, optimizer, batch, rule
    )


def _rule(start: Start, model: nn.Module, training: Training) -> Rule | None:
    """The sparse training rule of the phase; None where a fixed mask is all there is to it."""
    phase = start.phase
    if phase.has_fixed_mask:
        return None
    weights = {name: p.detach() for name, p in model.named_parameters() if name in start.mask}
    kept = None if phase.sparsity is None else num_kept(num_weights(start.mask), phase.sparsity)
    setup = Setup(kept, len(training.rates), training.loader.num_steps)
    return make_rule(phase.training.rule, phase.training.options, weights, setup)


def _training(context: Context, start: Start, candidate: Candidate) -> Training:
    loader, phase = context.loaders.train, start.phase
    rates = candidate_rates(phase, candidate, start.history, start.distance, loader.num_steps)
    return Training(
        loader=loader,
        rates=rates,
        seed=candidate.seed,
        purpose="retrain",
        phase=phase.index,
        label_smoothing=context.config.pretrain.label_smoothing,
        task=context.task,
        device=context.mesh.device,
        own_loss=own_loss(context.config.pretrain.loss),
    )


def _is_finite(context: Context, state: State, epochs: list[Epoch]) -> bool:
    """Agreed on by the group: its ranks must go the same way afterwards."""
    finite = all(bool(torch.isfinite(t).all()) for t in state.values() if t.is_floating_point())
    losses = all(epoch.loss - epoch.loss == 0 for epoch in epochs)
    bad = torch.tensor([0.0 if finite and losses else 1.0], device=context.mesh.device)
    return not sum_(bad, context.mesh.data).item()
