"""One candidate's retraining, from where its phase starts to what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sms_dist.config import RetrainConfig
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.engines.state import check_fit, copy_, joined, number, part
from sms_dist.mesh.collectives import sum_
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.pruning.allocation import num_kept
from sms_dist.pruning.mask import Mask
from sms_dist.run.schema import Epoch
from sms_dist.schedules.learning_rate import History, Retraining, continued, retraining_rates
from sms_dist.soups.states import bare_state
from sms_dist.soups.vector import SurvivingVector
from sms_dist.sparse_rules import make_rule
from sms_dist.sparse_rules.base import Rule, Setup
from sms_dist.training.checkpoints import Checkpointer
from sms_dist.training.context import Context, State
from sms_dist.training.loop import AnyTrainable, Training, Watcher, train, training_loss


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
    """The result of a candidate's retraining."""

    state: State  # pruned
    mask: Mask
    epochs: list[Epoch]
    is_finite: bool
    latent: State | None = None  # the dense weights behind, where the rule goes on with them

    @property
    def trained(self) -> State:
        """Return what is averaged in a soup."""
        return self.state if self.latent is None else self.latent


def retrain(
    context: Context,
    start: Start,
    candidate: Candidate,
    watcher: Watcher,
    checkpointer: Checkpointer,
) -> Retrained:
    """Train one candidate on this group. Every rank of the group must call; no other takes part."""
    own = CandidateTraining(context, start, candidate)
    train(own.begin(make_engine(own.job), watcher, checkpointer))
    return own.result()


class CandidateTraining:
    """One candidate's training: `job` for an engine, `begin` with that engine, then the `result`.

    Every rank of the group must call every method.
    """

    def __init__(self, context: Context, start: Start, candidate: Candidate) -> None:
        self._context, self._start, self._candidate = context, start, candidate
        model, config = context.load(start.state), context.config
        self._ignored = not_finite(bare_state(model))  # such as a mask of minus infinity
        self._rates = candidate_rates(start, candidate, context.loaders.train.num_steps)
        self.job = Job(
            model=model,
            mask=start.held,
            axis=context.mesh.data,
            mesh=context.mesh,
            engine=config.engine,
            optimizer=optimizer_settings(context.recipe.pretrain, candidate.retrain),
            batch_size=config.data.batch_size,
            rule=self._rule(model),
        )

    def begin(
        self, engine: AnyTrainable, watcher: Watcher, checkpointer: Checkpointer
    ) -> Training[AnyTrainable]:
        """Return the training on an engine that was made for the job."""
        context, candidate = self._context, self._candidate
        named = self.job.model.named_parameters()
        trained = {name: p.detach() for name, p in named if p.requires_grad}
        self._average = WeightAverage(candidate.retrain, engine.weights, trained)
        self._training = Training(
            engine=engine,
            loader=context.loaders.train,
            rates=self._rates,
            loss=training_loss(context),
            seed=candidate.seed,
            purpose="retrain",
            phase=self._start.phase.index,
            axis=self.job.axis,
            device=context.mesh.device,
            watcher=watcher,
            checkpointer=checkpointer,
            follower=self._average,
        )
        return self._training

    def result(self) -> Retrained:
        """Return what has become of the candidate, and close the engine."""
        start, rule, epochs = self._start, self.job.rule, self._training.epochs
        state = self._average.result()
        self._training.engine.close()
        if not self._is_finite(state, epochs):
            return Retrained(state, start.mask, epochs, is_finite=False)
        if rule is None:
            assert_masked(state, start.held)
            return Retrained(state, start.mask, epochs, is_finite=True)
        weights, mask = rule.finish({name: state[name] for name in start.mask})
        latent = state if start.phase.keeps_latent else None
        return Retrained(state | dict(weights), mask, epochs, is_finite=True, latent=latent)

    def _rule(self, model: nn.Module) -> Rule | None:
        """Return the sparse training rule of the phase; None if a mask is fixed throughout."""
        phase, mask = self._start.phase, self._start.mask
        if phase.has_fixed_mask:
            return None
        weights = {name: p.detach() for name, p in model.named_parameters() if name in mask}
        kept = None if phase.sparsity is None else num_kept(mask.num_weights, phase.sparsity)
        setup = Setup(kept, len(self._rates), self._context.loaders.train.num_steps)
        return make_rule(phase.training.rule, phase.training.options, weights, setup)

    def _is_finite(self, state: State, epochs: list[Epoch]) -> bool:
        """Return the same answer on all ranks of the group, which must go the same way after it."""
        mesh = self._context.mesh
        finite = not_finite(state) <= self._ignored
        losses = all(epoch.loss - epoch.loss == 0 for epoch in epochs)
        bad = torch.tensor([0.0 if finite and losses else 1.0], device=mesh.device)
        return not sum_(bad, mesh.data).item()


def not_finite(state: State) -> set[str]:
    """Return the names of tensors with a value that is no finite number."""
    return {name for name, tensor in state.items() if not torch.isfinite(tensor).all()}


def assert_masked(state: State, mask: Mask) -> None:
    """Check that pruned weights are exactly zero, as every engine and rule promises."""
    for name, kept in mask.items():
        assert not torch.count_nonzero(state[name][~kept]), f"{name} has pruned weights that moved"


def candidate_rates(start: Start, candidate: Candidate, num_steps: int) -> list[float]:
    """Return the learning rate of every step of a candidate's phase; `num_steps` is an epoch's.

    They follow a schedule of retraining, or that of pretraining where the phase continues it.
    """
    phase, retrain = start.phase, candidate.retrain
    known = known_history(start.history, retrain.schedule).scaled_to(retrain.learning_rate)
    if phase.first_epoch is None:
        job = Retraining(known, retrain.epochs, start.distance)
        total = retrain.epochs * num_steps
        rates = retraining_rates(retrain.schedule, job, total, retrain.warmup)
    else:
        rates = continued(known, phase.first_epoch, retrain.epochs)
    first = first_averaged(retrain)
    if first is None or retrain.swa_learning_rate is None:
        return rates
    num_before = first * num_steps
    return rates[:num_before] + [retrain.swa_learning_rate] * (len(rates) - num_before)


def known_history(history: History | None, schedule: str) -> History:
    """Return the history of pretraining; ValueError if there is none."""
    if history is not None:
        return history
    raise ValueError(
        f"retrain.schedule={schedule} needs the learning rates of pretraining, and pretrain.from "
        "has no history.json beside its weights; start from a run folder, or describe the "
        "pretraining in the pretrain section and set pretrain.history=config"
    )


class WeightAverage:
    """The mean of the weights after epochs, or an exponential moving average over steps.

    The mean (stochastic weight averaging, Izmailov et al., 2018) begins after a fraction of the
    epochs, `retrain.swa_from`. The moving average, `retrain.ema`, begins as the weights after the
    first step. Pruned weights are zero in both.
    """

    def __init__(
        self,
        retrain: RetrainConfig,
        weights: Callable[[], State],
        trained: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Average what `weights` returns after epochs, and the parameters `trained` after steps.

        Every rank of the group must call `weights`.
        """
        self._decay, self._trained = retrain.ema, dict(trained or {})
        self._moving: State = {}
        self._first = first_averaged(retrain)
        self._weights = weights
        self._sum: State = {}
        self._count = 0

    def after_update(self) -> None:
        """Move the moving average towards the weights."""
        if self._decay is None:
            return
        if not self._moving:
            self._moving = {name: weight.clone() for name, weight in self._trained.items()}
        moving, weights = list(self._moving.values()), list(self._trained.values())
        torch._foreach_lerp_(moving, weights, 1 - self._decay)

    def after_epoch(self, epoch: int) -> None:
        """Add the weights, if this epoch counts. Every rank of the group must call."""
        if self._first is None or epoch <= self._first:
            return
        self._count += 1
        for name, value in _averaged(self._weights()).items():
            self._sum[name] = self._sum[name].add_(value) if name in self._sum else value

    def state(self) -> State:
        """Return the sum so far and the number of epochs in it, and the moving average; no copy."""
        return {"count": number(self._count)} | joined({"sum": self._sum, "moving": self._moving})

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state; ValueError if it does not fit. Every rank must call."""
        sums: State = {}
        if state.get("count"):
            sums = _averaged(self._weights())
        moving = {}
        if self._decay is not None and part(state, "moving"):
            moving = {name: torch.empty_like(weight) for name, weight in self._trained.items()}
        check_fit(state, {"count": number(0)} | joined({"sum": sums, "moving": moving}))
        copy_(sums, part(state, "sum"))
        copy_(moving, part(state, "moving"))
        self._moving = moving
        self._sum, self._count = sums, int(state["count"])

    def result(self) -> State:
        """Return the present weights, and what is averaged in its place. Every rank must call."""
        averages = {name: (total / self._count).float() for name, total in self._sum.items()}
        return self._weights() | averages | self._moving


def _averaged(state: State) -> State:
    """Return what has a mean: not the counts and flags among the buffers."""
    return {name: t.double() for name, t in state.items() if t.is_floating_point()}


def first_averaged(retrain: RetrainConfig) -> int | None:
    """Return the epochs before the first that is averaged; None without averaging."""
    if retrain.swa_from is None:
        return None
    return min(int(retrain.swa_from * retrain.epochs), retrain.epochs - 1)
