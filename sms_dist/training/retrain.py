"""One candidate's retraining, from the pruned weights of its phase."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sms_dist.distributed.collectives import sum_
from sms_dist.distributed.engines import make_engine
from sms_dist.distributed.engines.base import Job
from sms_dist.phases import Candidate, Phase
from sms_dist.pruning.mask import Mask
from sms_dist.schedules.retraining import History, Retraining, retraining_rates
from sms_dist.training.loop import Epoch, Training, Watcher, train
from sms_dist.training.workbench import State, Workbench


@dataclass(frozen=True)
class Start:
    """What all candidates of a phase have in common."""

    phase: Phase
    state: State  # pruned
    mask: Mask
    history: History | None
    distance: float  # how far pruning moved the weights (ALLR)


@dataclass(frozen=True)
class Retrained:
    state: State
    epochs: list[Epoch]
    is_finite: bool


def retrain(bench: Workbench, start: Start, candidate: Candidate, watcher: Watcher) -> Retrained:
    """Train one candidate on my group. Every rank of the group must call; no other takes part."""
    config, at = bench.config, bench.at
    model = bench.load(start.state)
    state = {name: t.detach().clone() for name, t in model.state_dict().items()}
    decay = candidate.retrain.weight_decay
    optimizer = config.pretrain
    if decay is not None:
        optimizer = optimizer.model_copy(update={"weight_decay": decay})
    job = Job(model, start.mask, at.data, at, config.engine, optimizer, config.data.batch_size)
    engine = make_engine(job)
    epochs = train(engine, _training(bench, start, candidate), at.data, watcher)
    state |= engine.weights()
    engine.close()
    is_finite = _is_finite(bench, state, epochs)
    if is_finite:  # else clipping may have spread the NaN of a gradient's norm
        assert_masked(state, start.mask)
    return Retrained(state, epochs, is_finite)


def candidate_rates(
    candidate: Candidate, history: History | None, distance: float, num_steps: int
) -> list[float]:
    """The learning rate of every step of a candidate's phase."""
    retrain = candidate.retrain
    known = known_history(history, retrain.schedule).scaled_to(retrain.learning_rate)
    phase = Retraining(known, retrain.epochs, distance)
    return retraining_rates(retrain.schedule, phase, num_steps, retrain.warmup)


def known_history(history: History | None, schedule: str) -> History:
    """The history; ValueError where there is none."""
    if history is not None:
        return history
    raise ValueError(
        f"retrain.schedule={schedule} needs the learning rates of pretraining, and pretrain.from "
        "has no history.json beside its weights; start from a run folder, or describe the "
        "pretraining in the pretrain section and set pretrain.history=config"
    )


def assert_masked(state: State, mask: Mask) -> None:
    """Pruned weights are exactly zero: the promise of every engine."""
    for name, kept in mask.items():
        assert not torch.count_nonzero(state[name][~kept]), f"{name} has pruned weights that moved"


def _training(bench: Workbench, start: Start, candidate: Candidate) -> Training:
    loader = bench.loaders.train
    num_steps = candidate.retrain.epochs * loader.num_steps
    return Training(
        loader=loader,
        rates=candidate_rates(candidate, start.history, start.distance, num_steps),
        seed=candidate.seed,
        purpose="retrain",
        phase=start.phase.index,
        label_smoothing=bench.config.pretrain.label_smoothing,
        device=bench.at.device,
    )


def _is_finite(bench: Workbench, state: State, epochs: list[Epoch]) -> bool:
    """Agreed on by the group: its ranks must go the same way afterwards."""
    finite = all(bool(torch.isfinite(t).all()) for t in state.values() if t.is_floating_point())
    losses = all(epoch.loss - epoch.loss == 0 for epoch in epochs)
    bad = torch.tensor([0.0 if finite and losses else 1.0], device=bench.at.device)
    return not sum_(bad, bench.at.data).item()
