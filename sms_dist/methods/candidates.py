"""The candidates of a phase: the retraining section, with what varies replaced."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic import ValidationError

from sms_dist.config import Config, RetrainConfig
from sms_dist.phases import Candidate

SEEDS_PER_RUN = 1000  # the seeds of candidates of neighbouring runs do not meet
Candidates: TypeAlias = tuple[Candidate, ...]


def single(config: Config, **changes: Any) -> Candidates:
    """One candidate, with retraining keys replaced."""
    return (_candidate(config, 0, "method", changes),)


def several(config: Config, phase: int, **changes: Any) -> Candidates:
    """The m candidates of a phase, each as configured to vary; then the changes of all."""
    per_phase = config.candidates.count_per_phase
    count = per_phase[phase - 1] if per_phase else config.candidates.count
    return tuple(_varied(config, i, changes) for i in range(count))


def _varied(config: Config, index: int, changes: dict[str, Any]) -> Candidate:
    own = {key: values[index] for key, values in config.candidates.vary.items()}
    found = _candidate(config, index, "candidates.vary", own)
    if config.candidates.overrides:
        field = f"candidates.overrides[{index}]"
        found = _candidate(config, index, field, own | config.candidates.overrides[index])
    return _candidate(config, index, "method", found.retrain.model_dump() | changes)


def _candidate(config: Config, index: int, field: str, changes: dict[str, Any]) -> Candidate:
    seed = config.seed * SEEDS_PER_RUN + (index if config.candidates.vary_seed else 0)
    return Candidate(index, seed, _replaced(config.retrain, field, changes))


def _replaced(retrain: RetrainConfig, field: str, changes: dict[str, Any]) -> RetrainConfig:
    try:
        return RetrainConfig.model_validate(retrain.model_dump() | changes)
    except ValidationError as error:
        first = error.errors()[0]
        key, problem = first["loc"][0], first["msg"].replace("Input should", "should")
        raise ValueError(f"{field}.{key}: {first['input']} {problem}") from None
