"""The start of a phase's candidates: the last soup, pruned. Each rank finds it alone, since it is a
pure function of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sms_dist.experiment.dense import DenseModel
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.pruning.feasible import FILTERS
from sms_dist.pruning.filters import companions
from sms_dist.pruning.mask import Mask, apply_, full_mask
from sms_dist.pruning.prune import tighten_weights
from sms_dist.run import store
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import MASK, METRICS, WEIGHTS
from sms_dist.run.schema import PhaseMetrics
from sms_dist.schedules.learning_rate import relative_distance
from sms_dist.training.context import Context, State
from sms_dist.training.retrain import Start


@dataclass(frozen=True)
class PhaseState:
    """The weights and mask that a phase ends with: its soup, or the dense weights behind it if a
    sparse training rule goes on with them."""

    state: State
    mask: Mask


def common_start(context: Context, phase: Phase, last: PhaseState, dense: DenseModel) -> Start:
    """Return the start that all candidates share, unless each goes on from its own weights."""
    if not phase.has_fixed_mask:  # the rule does the pruning
        mask = full_mask(last.state, context.prunable)
        return Start(phase, last.state, mask, mask, dense.history, distance=1.0)
    state = last.state
    if phase.begin == "rewind":
        assert dense.kept is not None
        state = dense.kept
    start = _pruned(context, phase, state, last, dense)
    if phase.has_own_masks:
        return start
    # Made here, before groups go their own ways: in the end all of them would wait for it.
    return replace(start, vector=context.surviving_vector(start.mask))


def own_start(
    context: Context, log: Logbook, phase: Phase, candidate: Candidate, dense: DenseModel
) -> Start | None:
    """Return the end of the candidate of the same index in the last phase, pruned; None if it
    diverged."""
    before = log.paths.candidate(phase.index - 1, candidate.index)
    # Not the candidate's own record, which was stored before it was compared with the others.
    last = store.load_record(log.paths.soup(phase.index - 1), METRICS, PhaseMetrics)
    record = last.candidate(candidate.index)
    if record is not None and record.diverged:
        return None
    # While all had one mask, it is stored with their soup only.
    folder = before if (before / MASK).is_file() else log.paths.soup(phase.index - 1)
    state = context.on_device(store.load_tensors(before, WEIGHTS))
    mask = context.on_device(store.load_tensors(folder, MASK))
    own = PhaseState(state, Mask({name: mask[name] for name in context.prunable}))
    return _pruned(context, phase, state, own, dense)


def pruned(context: Context, phase: Phase, last: PhaseState) -> Mask:
    """Return the mask of the phase's sparsity, by the weights and within the mask of `last`."""
    assert phase.sparsity is not None
    pruning = context.config.pruning
    return tighten_weights(
        [weight for weight in context.weights if weight.is_pruned],
        context.effective(last.state),
        last.mask,
        phase.sparsity,
        pruning.pattern,
        pruning.allocation,
        pruning.score,
    )


def held_with(context: Context, mask: Mask) -> Mask:
    """Return the mask, and the biases and norms that are zero with it if filters are pruned."""
    if context.config.pruning.pattern != FILTERS:
        return mask
    return companions(context.new_model(), mask)


def _pruned(
    context: Context, phase: Phase, state: State, last: PhaseState, dense: DenseModel
) -> Start:
    """Return the weights `state`, pruned by the scores of the weights of `last`."""
    mask = pruned(context, phase, last)
    distance = _distance(context, state, mask, phase.fraction)
    weights = {name: tensor.clone() for name, tensor in state.items()}
    held = held_with(context, mask)
    apply_(weights, held)
    return Start(phase, weights, mask, held, dense.history, distance)


def _distance(context: Context, state: State, mask: Mask, fraction: float) -> float:
    """Return how far pruning moves the parameters, relative to their norm (ALLR)."""
    norm = sum(float(state[name].double().square().sum()) for name in context.parameters)
    removed = sum(float(state[n][~kept].double().square().sum()) for n, kept in mask.items())
    return relative_distance(math.sqrt(norm), math.sqrt(removed), fraction)
