"""The parts of a journal that a report reads; what it does not need is passed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from sms_dist.reports.scores import BEFORE


class Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Measured(Told):
    """A model's metrics on test samples."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    @model_validator(mode="before")
    @classmethod
    def _of_test_samples(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {k: v for k, v in values.items() if k in fields or k.startswith("test_")}

    @property
    def num_metrics(self) -> int:
        return len(self.__pydantic_extra__)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what was measured."""
        return tuple(
            name.removeprefix("test_")
            for name, found in self.__pydantic_extra__.items()
            if found is not None
        )

    def test(self, name: str) -> float | None:
        """None where that was not measured."""
        return self.__pydantic_extra__.get(f"test_{name}")


class CandidateResult(Measured):
    index: int
    diverged: bool = False
    attempts: tuple[Any, ...] = ()  # retried with other seeds


class RetrainedFor(Told):
    epochs: int


class CandidateEvent(Told):
    phase: int
    index: int
    retrain: RetrainedFor


class PairResult(Measured):
    """The soup of two candidates."""

    candidates: tuple[int, int]


class PhaseResult(Told):
    """A phase; sparsity as realised, None where nothing was measured."""

    phase: int
    sparsity: float
    score: str = BEFORE  # the metric that counts; best and mean are in it
    soup: Measured
    candidates: tuple[CandidateResult, ...]
    best_candidate: float | None = None
    mean_candidate: float | None = None
    surviving_weights: int | None = None
    theoretical_speedup: float | None = None
    pairs: tuple[PairResult, ...] | None = None

    @property
    def soup_score(self) -> float | None:
        return self.soup.test(self.score)

    @property
    def num_weights(self) -> int | None:
        """Prunable weights, exactly: the sparsity is a ratio of whole numbers."""
        if not self.surviving_weights:
            return None
        return round(self.surviving_weights / (1 - self.sparsity))


class OodResult(Told):
    """A model on corrupted test samples; accuracies of the severities 1 to 5."""

    where: str  # dense or phase_2/soup: the model's folder
    ood_accuracy: float | None
    corruptions: str  # generated, or the name of the folder they are from
    accuracies: dict[str, tuple[float | None, ...]]
