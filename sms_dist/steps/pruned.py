"""Pruning to a phase's sparsity: a pure function of the weights, computed by every rank alone."""

from __future__ import annotations

import math

from sms_dist.config import lookup
from sms_dist.phases import Phase
from sms_dist.pruning.allocation import ALLOCATIONS
from sms_dist.pruning.mask import Mask, apply_, num_weights
from sms_dist.pruning.prune import prune
from sms_dist.schedules.retraining import History, relative_distance
from sms_dist.schedules.sparsity import num_kept
from sms_dist.training.retrain import Start
from sms_dist.training.workbench import State, Workbench


def pruned(
    bench: Workbench, phase: Phase, state: State, mask: Mask, history: History | None
) -> Start:
    """Where the candidates of a phase start: the state cut down to the phase's sparsity."""
    allocate = lookup(ALLOCATIONS, bench.config.pruning.allocation, "pruning.allocation")
    tighter = prune(state, mask, num_kept(num_weights(mask), phase.sparsity), allocate)
    distance = _distance(bench, state, tighter, phase.fraction)
    weights = {name: tensor.clone() for name, tensor in state.items()}
    apply_(weights, tighter)
    return Start(phase, weights, tighter, history, distance)


def _distance(bench: Workbench, state: State, mask: Mask, fraction: float) -> float:
    """How far pruning moves the parameters, relative to their norm (ALLR)."""
    norm = sum(float(state[name].double().square().sum()) for name in bench.parameters)
    removed = sum(float(state[n][~kept].double().square().sum()) for n, kept in mask.items())
    return relative_distance(math.sqrt(norm), math.sqrt(removed), fraction)
