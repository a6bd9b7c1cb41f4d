"""Prune-retrain cycles, the shape that the methods which prune after training share."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from sms_dist.config import Config, RetrainConfig
from sms_dist.phases import Candidate, Phase
from sms_dist.schedules.sparsity import fraction_per_phase, geometric

SEEDS_PER_RUN = 1000  # the seeds of candidates of neighbouring runs do not meet


def cycles(config: Config, candidates: tuple[Candidate, ...], rule: str) -> tuple[Phase, ...]:
    """As many phases as configured, each with the same candidates."""
    pruning = config.pruning
    fraction = fraction_per_phase(pruning.goal_sparsity, pruning.phases)
    sparsities = geometric(pruning.goal_sparsity, pruning.phases)
    return tuple(
        Phase(k, sparsity, fraction, candidates, rule) for k, sparsity in enumerate(sparsities, 1)
    )


def candidate(config: Config, index: int, **changes: Any) -> Candidate:
    """A candidate: the retraining section with some of its keys replaced."""
    seed = config.seed * SEEDS_PER_RUN + (index if config.candidates.vary_seed else 0)
    return Candidate(index, seed, _replaced(config.retrain, changes))


def _replaced(retrain: RetrainConfig, changes: dict[str, Any]) -> RetrainConfig:
    try:
        return RetrainConfig.model_validate(retrain.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        key, problem = first["loc"][0], first["msg"].replace("Input should", "should")
        raise ValueError(f"candidates.vary.{key}: {first['input']} {problem}") from None
