"""Prune-retrain cycles, the shape that the methods which prune after training share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sms_dist.config import Config
from sms_dist.methods.candidates import Candidates
from sms_dist.methods.method import goal_sparsity
from sms_dist.phases import Phase, Recipe
from sms_dist.schedules.sparsity import fraction_per_phase, geometric


def cycles(
    config: Config,
    candidates: Callable[[int], Candidates],
    rule: str = "uniform",
    num_phases: int | None = None,
) -> tuple[Phase, ...]:
    """Phases that remove equal fractions; `candidates` gives those of each, from 1."""
    goal, num = goal_sparsity(config), num_phases or config.pruning.phases
    fraction = fraction_per_phase(goal, num)
    return tuple(
        Phase(k, sparsity, fraction, candidates(k), rule)
        for k, sparsity in enumerate(geometric(goal, num), 1)
    )


def after_training(config: Config, phases: tuple[Phase, ...], **more: Any) -> Recipe:
    """The recipe of phases that follow the whole of pretraining."""
    return Recipe(config.pretrain, config.pretrain.epochs, phases, **more)


def all_but_first(phases: tuple[Phase, ...], **changes: Any) -> tuple[Phase, ...]:
    """The phases, from the second on with fields replaced."""
    return phases[:1] + tuple(replace(phase, **changes) for phase in phases[1:])
