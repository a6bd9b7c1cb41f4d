"""Where the candidates of a phase start: a pure function of weights, found by each rank alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sms_dist.experiment.dense import DenseModel
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.pruning.mask import Mask, apply_, full_mask
from sms_dist.pruning.patterns import tighten
from sms_dist.run import store
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import MASK, METRICS, WEIGHTS
from sms_dist.run.schema import PhaseMetrics
from sms_dist.schedules.learning_rate import relative_distance
from sms_dist.training.context import Context, State
from sms_dist.training.mixer import packing_of
from sms_dist.training.retrain import Start
from sms_dist.training.settle import held_with


@dataclass(frozen=True)
class Standing:
    """What the last phase leaves: a soup and its mask; under a sparse training rule that goes on,
    the dense weights behind the soup."""

    state: State
    mask: Mask


def common_start(context: Context, phase: Phase, standing: Standing, dense: DenseModel) -> Start:
    """The start that all candidates share, unless each goes on from its own weights."""
    if not phase.has_fixed_mask:  # the rule does the pruning
        mask = full_mask(standing.state, context.prunable)
        return Start(phase, standing.state, mask, mask, dense.history, distance=1.0)
    state = standing.state
    if phase.begin == "rewind":
        assert dense.kept is not None
        state = dense.kept
    start = _pruned(context, phase, state, standing, dense)
    if phase.has_own_masks:
        return start
    # Found here, before groups go their own ways: in the end all of them would wait for it.
    return replace(start, packing=packing_of(context, start.mask))


def own_start(
    context: Context, log: Logbook, phase: Phase, candidate: Candidate, dense: DenseModel
) -> Start | None:
    """Where the candidate of the same index got to in the last phase; None if it diverged."""
    before = log.paths.candidate(phase.index - 1, candidate.index)
    # Not what is stored of it: that it was far from the others was seen later.
    last = store.load_record(log.paths.soup(phase.index - 1), METRICS, PhaseMetrics)
    known = last.candidate(candidate.index)
    if known is not None and known.diverged:
        return None
    # While all had one mask, it is stored with their soup only.
    folder = before if (before / MASK).is_file() else log.paths.soup(phase.index - 1)
    state = context.on_device(store.load_tensors(before, WEIGHTS))
    mask = context.on_device(store.load_tensors(folder, MASK))
    standing = Standing(state, {name: mask[name] for name in context.prunable})
    return _pruned(context, phase, state, standing, dense)


def _pruned(
    context: Context, phase: Phase, state: State, standing: Standing, dense: DenseModel
) -> Start:
    """The weights `state`, cut down to the phase's sparsity by the magnitudes of `standing`."""
    assert phase.sparsity is not None
    pruning = context.config.pruning
    mask = tighten(
        standing.state,
        standing.mask,
        phase.sparsity,
        pruning.pattern,
        pruning.allocation,
        pruning.score,
    )
    distance = _distance(context, state, mask, phase.fraction)
    weights = {name: tensor.clone() for name, tensor in state.items()}
    held = held_with(context, mask)
    apply_(weights, held)
    return Start(phase, weights, mask, held, dense.history, distance)


def _distance(context: Context, state: State, mask: Mask, fraction: float) -> float:
    """How far pruning moves the parameters, relative to their norm (ALLR)."""
    norm = sum(float(state[name].double().square().sum()) for name in context.parameters)
    removed = sum(float(state[n][~kept].double().square().sum()) for n, kept in mask.items())
    return relative_distance(math.sqrt(norm), math.sqrt(removed), fraction)
