"""The recipe of a run as plain data: pretraining, then phases with their candidates; its makers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from sms_dist.config import Config, PretrainConfig, RetrainConfig
from sms_dist.config.file import problem
from sms_dist.schedules.sparsity import fraction_per_phase, geometric
from sms_dist.sparse_rules import rule_class

Begin = Literal["soup", "own", "rewind"]
FIXED_MASK = "fixed_mask"  # no sparse training rule: what is pruned stays pruned


@dataclass(frozen=True)
class Candidate:
    """One copy of the pruned model and how it is retrained."""

    index: int
    seed: int
    retrain: RetrainConfig


@dataclass(frozen=True)
class SparseTraining:
    """The sparse training rule of a phase, by name, with its options."""

    rule: str = FIXED_MASK
    options: dict[str, Any] = field(default_factory=dict)


FIXED = SparseTraining()  # no rule: the mask stays as it is


@dataclass(frozen=True)
class Phase:
    """Prune to `sparsity`, retrain the candidates side by side, merge them by `rule`.

    Candidates begin with the last soup; with the result of the candidate of their index in the last
    phase ("own"); or with the kept weights of pretraining, of which those survive that are large in
    the last soup ("rewind").
    """

    index: int  # from 1
    sparsity: float | None  # None: whatever the sparse training rule leaves
    fraction: float  # of the weights that remained before this phase, pruned in it
    candidates: tuple[Candidate, ...]
    rule: str
    begin: Begin = "soup"
    first_epoch: int | None = None  # where pretraining's schedule goes on; None: one of retraining
    training: SparseTraining = FIXED

    @property
    def has_fixed_mask(self) -> bool:
        """True where no sparse training rule changes the mask."""
        return self.training.rule == FIXED_MASK

    @property
    def has_own_masks(self) -> bool:
        """True where candidates may end with masks that differ."""
        return self.begin == "own" or not self.has_fixed_mask

    @property
    def keeps_latent(self) -> bool:
        """Do the dense weights behind the candidates go on, instead of the pruned ones?"""
        return not self.has_fixed_mask and rule_class(self.training.rule).keeps_latent


@dataclass(frozen=True)
class Recipe:
    """All that a method decides: how to pretrain, and the phases."""

    pretrain: PretrainConfig
    dense_epochs: int  # of pretrain.epochs, trained before the first phase
    phases: tuple[Phase, ...]
    kept_epoch: int | None = None  # its weights are kept for phases that rewind


SEEDS_PER_RUN = 1000  # the seeds of candidates of neighbouring runs do not meet
Candidates: TypeAlias = tuple[Candidate, ...]
ORIGINAL = "original"  # stands in for a retraining schedule in what is recorded


def goal_sparsity(config: Config) -> float:
    """Return the goal; ValueError where none is given to a method that needs one."""
    goal = config.pruning.goal_sparsity
    if goal is None:
        raise ValueError(
            f"pruning.goal_sparsity=null, but method.name={config.method.name} prunes to a goal; "
            "give one, for example 0.9"
        )
    return goal


def single(config: Config, **changes: Any) -> Candidates:
    """Return one candidate, with retraining keys replaced."""
    return (_candidate(config, 0, "method", changes),)


def several(config: Config, phase: int, **changes: Any) -> Candidates:
    """Return the m candidates of a phase, each as configured to vary, then with the changes."""
    per_phase = config.candidates.count_per_phase
    count = per_phase[phase - 1] if per_phase else config.candidates.count
    return tuple(_varied(config, i, changes) for i in range(count))


def _varied(config: Config, index: int, changes: dict[str, Any]) -> Candidate:
    own = {key: values[index] for key, values in config.candidates.vary.items()}
    candidate = _candidate(config, index, "candidates.vary", own)
    if config.candidates.overrides:
        field = f"candidates.overrides[{index}]"
        candidate = _candidate(config, index, field, own | config.candidates.overrides[index])
    return _candidate(config, index, "method", candidate.retrain.model_dump() | changes)


def _candidate(config: Config, index: int, field: str, changes: dict[str, Any]) -> Candidate:
    """Return a candidate with retraining keys replaced; ValueError that names the `field`."""
    seed = config.seed * SEEDS_PER_RUN + (index if config.candidates.vary_seed else 0)
    try:
        retrain = RetrainConfig.model_validate(config.retrain.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{field}.{first['loc'][0]}: {first['input']} {problem(first)}") from None
    return Candidate(index, seed, retrain)


def check_fixed_epochs(config: Config) -> None:
    """Raise ValueError where candidates differ in what the schedule of pretraining decides."""
    candidates = config.candidates
    for key in ("epochs", "schedule", "warmup"):
        if key in candidates.vary or any(key in changes for changes in candidates.overrides):
            raise ValueError(
                f"candidates vary in {key}, but method.name={config.method.name} continues the "
                "schedule of pretraining; vary the seed, learning_rate or weight_decay"
            )


def cycles(
    config: Config,
    candidates: Callable[[int], Candidates],
    rule: str = "uniform",
    num_phases: int | None = None,
) -> tuple[Phase, ...]:
    """Return phases that remove equal fractions; `candidates` makes those of each, from 1."""
    goal, num = goal_sparsity(config), num_phases or config.pruning.phases
    fraction = fraction_per_phase(goal, num)
    return tuple(
        Phase(k, sparsity, fraction, candidates(k), rule)
        for k, sparsity in enumerate(geometric(goal, num), 1)
    )


def after_training(config: Config, phases: tuple[Phase, ...], **more: Any) -> Recipe:
    """Return the recipe of phases that follow the whole of pretraining."""
    return Recipe(config.pretrain, config.pretrain.epochs, phases, **more)
