"""The records of a run folder, for the code that writes them and all that reads them.

A record is a JSON object. Metrics of a model (`test_accuracy`, `validation_loss`) stand among the
other keys of its record, since every task has its own; here they are the field `metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    SerializerFunctionWrapHandler,
    Strict,
    ValidationError,
    model_serializer,
    model_validator,
)

from sms_dist.config import RetrainConfig
from sms_dist.config.file import one_line
from sms_dist.config.section import Count, Natural, Section

T = TypeVar("T")
R = TypeVar("R", bound=BaseModel)
Listed = Annotated[tuple[T, ...], Strict(False)]  # JSON has lists only
NULL_IS_NAN = BeforeValidator(lambda value: math.nan if value is None else value)
Number = Annotated[float, NULL_IS_NAN]
"""A float that may be infinite or no number, which JSON writes as null."""
Seconds = Annotated[float, Field(ge=0, le=1e10)]  # nothing takes longer than a human life
PREFIXES = ("test_", "validation_")  # of the names of metrics


def _metrics_only(values: Any) -> Any:
    """Return the metrics among the keys of a record; candidates with own masks have a sparsity."""
    if not isinstance(values, Mapping):
        return values
    return {k: v for k, v in values.items() if k.startswith(PREFIXES) or k == "sparsity"}


def _known_keys(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    return {key: value for key, value in values.items() if key in RetrainConfig.model_fields}


Metrics = Annotated[dict[str, float | None], BeforeValidator(_metrics_only)]
Retrain = Annotated[RetrainConfig, BeforeValidator(_known_keys)]


class Record(BaseModel):
    """A JSON object: keys in the order of the fields, without those that default to None and are.

    Keys that are not known, of a later version, are passed over.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", defer_build=True)
    FLAT: ClassVar[tuple[str, ...]] = ()
    """Fields whose own keys stand among those of the record."""

    def as_json(self) -> dict[str, Any]:
        """Return what is written: plain JSON values."""
        return self.model_dump(mode="json")

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {**values, **{name: values for name in cls.FLAT if name not in values}}

    @model_serializer(mode="wrap")
    def _flatten(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields, document = type(self).model_fields, dict[str, Any]()
        optional = {name for name, field in fields.items() if not field.is_required()}
        for name, value in handler(self).items():
            if name in self.FLAT:
                document |= value
            elif value is not None or name not in optional:
                document[name] = value
        return document


class Measured(Record):
    """A model with its metrics; those on test samples are what reports show."""

    FLAT = ("metrics",)

    if TYPE_CHECKING:  # each record has it in its own place
        metrics: Metrics

    def test(self, name: str) -> float | None:
        """Return a metric on test samples, None where it was not measured."""
        return self.metrics.get(f"test_{name}")

    @property
    def tested(self) -> tuple[str, ...]:
        """The names of what was measured on test samples."""
        return tuple(
            name.removeprefix("test_")
            for name, value in self.metrics.items()
            if name.startswith("test_") and value is not None
        )


class Epoch(Record):
    """One epoch of training; averages are over all ranks that train the model."""

    epoch: int  # from 1
    loss: Number
    accuracy: Number
    learning_rate: float
    num_samples: int


class DenseMetrics(Measured):
    """dense/metrics.json; without epochs and times also `dense` in summary.json."""

    metrics: Metrics
    sparsity: float | None = None  # of weights that were sparse when they were given
    epochs_trained: int | None = None
    epochs_total: int | None = None
    epochs: Listed[Epoch] | None = None
    seconds: Seconds | None = None
    resumed_at: Listed[int] | None = None

    @property
    def is_trained(self) -> bool:
        """True where dense training was complete before the method pruned."""
        trained, total = self.epochs_trained, self.epochs_total
        return trained is None or total is None or trained >= total

    def brief(self) -> DenseMetrics:
        """Return the result, without how it came about."""
        return self.model_copy(update={"epochs": None, "seconds": None, "resumed_at": None})


class Divergence(Record):
    """The reason why a candidate is left out of the soup."""

    kind: Literal["not finite", "far", "earlier"]
    epoch: int | None = None
    loss: Annotated[float | None, NULL_IS_NAN] = None
    median: float | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Divergence:
        if self.kind == "far" and (self.loss is None or self.median is None):
            raise ValueError("far needs a loss and a median")
        return self

    @property
    def reason(self) -> str:
        """The reason in words."""
        if self.kind == "earlier":
            return "left out since an earlier phase"
        if self.kind == "not finite":
            return f"loss or weights not finite after epoch {self.epoch}"
        return f"training loss of {self.loss:.4g} far above the median, {self.median:.4g}"


class Attempt(Record):
    """A seed of a candidate that was rejected."""

    seed: int
    divergence: Divergence


class CandidateMetrics(Measured):
    """phase_<k>/candidate_<i>/metrics.json; without its training also in phases' records."""

    index: int
    seed: int
    retrain: Retrain | None = None
    diverged: bool = False
    metrics: Metrics
    epochs: Listed[Epoch] | None = None
    seconds: Seconds | None = None
    resumed_at: Listed[int] | None = None
    attempts: Listed[Attempt] | None = None  # those that were rejected
    divergence: Divergence | None = None

    @property
    def num_attempts(self) -> int:
        """The number of seeds that were rejected before this one."""
        return len(self.attempts or ())

    def brief(self) -> CandidateMetrics:
        """Return the result, without its training."""
        return self.model_copy(update={"retrain": None, "epochs": None})


class Rejected(RootModel[Listed[CandidateMetrics]]):
    """phase_<k>/rejected/<name>/metrics.json: attempts that were judged together."""


class ModelMetrics(Measured):
    """A soup or an ensemble, by its metrics alone."""

    metrics: Metrics


class PairMetrics(Measured):
    """The soup of two candidates."""

    candidates: Annotated[tuple[int, int], Strict(False)]
    metrics: Metrics
    better_candidate: float | None = None  # test score of the better of the two


class PhaseMetrics(Record):
    """phase_<k>/soup/metrics.json, and a phase in summary.json.

    `score` names the metric that counts: best and mean are those of the candidates on test samples,
    without the ones that diverged.
    """

    phase: int
    sparsity: float
    score: str
    soup: ModelMetrics
    candidates: Listed[CandidateMetrics]
    best_candidate: float | None = None
    mean_candidate: float | None = None
    surviving_weights: int | None = None
    global_sparsity: float | None = None  # over all parameters, not the prunable only
    layer_sparsities: dict[str, float] | None = None
    dense_weights: dict[str, str] | None = None  # not pruned, of two dims or more: name -> why
    theoretical_speedup: float | None = None
    coefficients: dict[str, float] | None = None  # by candidate
    distances: dict[str, Number] | None = None
    pairs: Listed[PairMetrics] | None = None
    mask_sha256: str | None = None
    ensemble: ModelMetrics | None = None
    mask_overlap: dict[str, float] | None = None
    warnings: Listed[str] | None = None

    @property
    def soup_score(self) -> float | None:
        return self.soup.test(self.score)

    @property
    def num_weights(self) -> int | None:
        """The prunable weights, exactly: the sparsity is a ratio of whole numbers."""
        if not self.surviving_weights or self.sparsity >= 1:
            return None
        return round(self.surviving_weights / (1 - self.sparsity))

    def candidate(self, index: int) -> CandidateMetrics | None:
        return next((each for each in self.candidates if each.index == index), None)


class OodMetrics(Record):
    """A model on corrupted test samples; accuracies by corruption, of the severities in order."""

    ood_accuracy: float | None
    corruptions: str  # generated, or the name of the folder they are from
    accuracies: dict[str, Listed[float | None]]


class CorruptionFile(Record):
    """corruptions/<name>.json: accuracies by model (its folder), of the severities in order."""

    corruptions: str
    samples: int | None
    accuracies: dict[str, Listed[float]]


class FinalMetrics(Measured):
    """The last soup, or the dense model where nothing was pruned."""

    sparsity: float = 0.0
    metrics: Metrics
    epochs_trained: int | None = None
    epochs_total: int | None = None


class Summary(Record):
    """summary.json."""

    name: str = ""
    method: str
    seed: int
    score: str
    goal_sparsity: float | None
    dense: DenseMetrics
    phases: Listed[PhaseMetrics]
    final: FinalMetrics
    ood: dict[str, OodMetrics] | None = None  # by the model's folder


class PlannedSizes(Record):
    """The sizes of model and data in a plan."""

    num_prunable: Natural
    num_other: Natural
    steps_per_epoch: Count


class PlannedCandidate(Record):
    """A candidate in a plan."""

    index: Natural
    seed: int
    retrain: Retrain


class PlannedTraining(Record):
    """The sparse training rule of a phase in a plan."""

    rule: str
    options: dict[str, Any]


class PlannedPhase(Record):
    """A phase as the method made it."""

    index: Natural
    sparsity: float | None
    fraction: float
    candidates: Listed[PlannedCandidate]
    rule: str
    begin: str
    first_epoch: int | None
    training: PlannedTraining


class PhasePlanFile(Record):
    """A phase as it will run: waves, steps, surviving weights, bytes of the soup."""

    phase: PlannedPhase
    waves: Listed[Listed[int]]
    surviving: Natural
    steps: Listed[Natural]  # of each candidate
    soup_bytes: Natural

    @property
    def index(self) -> int:
        return self.phase.index

    @property
    def steps_of(self) -> dict[int, int]:
        """The steps of each candidate, by its index."""
        return dict(zip((c.index for c in self.phase.candidates), self.steps, strict=False))


class PlanFile(Record):
    """plan.json."""

    num_groups: Count
    sizes: PlannedSizes
    dense_epochs: Natural
    phases: Listed[PhasePlanFile]


class PackingFile(Section):
    """packing.json: it decides bits, so that no key may be passed over. None: not decided yet."""

    num_groups: Count
    packing: Literal["vmap", "loop"] | None = None


class Start(Record):
    """The environment of one start, in environment.json; unknown keys stay."""

    model_config = ConfigDict(extra="allow")

    started: str  # ISO, UTC
    command: str
    host: str
    cpus: int | None
    devices: Listed[str]  # GPUs of the first rank's host
    versions: dict[str, str | None]
    commit: str | None
    world: dict[str, str | None]  # environment variables that ranks and jobs are known by

    def number(self, variable: str) -> int:
        """Return a variable of the world that counts something, 0 where it is not set."""
        text = self.world.get(variable) or ""
        return int(text) if text.isdecimal() and len(text) < 10 else 0


class Input(Record):
    """A file that a run is made of, such as weights or own code."""

    sha256: str
    stamp: str | None = None  # size, time and number of the file, which change when it is written


class EnvironmentFile(Record):
    """environment.json: every start, the last one last; what the run is made of, by name."""

    starts: Annotated[Listed[Start], Field(min_length=1)]
    inputs: dict[str, Input] | None = None


class RecoveryFile(Record):
    """rank_<r>.json of a checkpoint."""

    identity: dict[str, Any]
    sha256: str
    document: dict[str, Any]

    @property
    def steps(self) -> int:
        """The steps that are done."""
        return int(self.document["steps"])

    @model_validator(mode="after")
    def _has_steps(self) -> RecoveryFile:
        if type(self.document.get("steps")) is not int:
            raise ValueError("document.steps is no number")
        return self


class JobLine(Record):
    """A line of logs/jobs.jsonl."""

    time: str = ""  # ISO, UTC
    job: Annotated[str, Strict(False), BeforeValidator(str)] = ""
    kind: str = ""
    script: str | None = None
    mark: str | None = None  # of what was lasting in the run folder

    @property
    def is_requeued(self) -> bool:
        return self.kind.startswith("requeue")

    @property
    def is_queued(self) -> bool:
        """True where the job now waits in Slurm's queue."""
        return self.is_requeued or self.kind.startswith("submit")


def parsed(kind: type[R], value: Any, place: str) -> R:
    """Return the record of a JSON value; ValueError, one line that begins with `place`."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        text = one_line(error, kind)
        if first["type"] == "missing":
            text = f"{'.'.join(map(str, first['loc']))} is missing"
        # Fields whose keys stand among those of their record have no name in the file.
        raise ValueError(f"{place}: {text.replace('metrics.', '')}") from None
