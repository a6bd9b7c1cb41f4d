"""The parts of a run's files that its status needs; what it does not need is passed over."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Number = Annotated[int, Field(ge=0)]
Word = Annotated[str, BeforeValidator(lambda value: "" if value is None else str(value))]


class Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Sizes(Told):
    steps_per_epoch: Annotated[int, Field(ge=1)]


class PlannedCandidate(Told):
    index: Number


class PhaseFacts(Told):
    index: Number
    sparsity: float | None
    candidates: tuple[PlannedCandidate, ...]


class PlannedPhase(Told):
    """plan.json: a phase; `steps` are those of its candidates."""

    phase: PhaseFacts
    steps: tuple[Number, ...]

    @property
    def index(self) -> int:
        return self.phase.index

    @property
    def steps_of(self) -> dict[int, int]:
        """Of each candidate."""
        return dict(zip((c.index for c in self.phase.candidates), self.steps, strict=False))


class Plan(Told):
    num_groups: Annotated[int, Field(ge=1)]
    sizes: Sizes
    dense_epochs: Number
    phases: tuple[PlannedPhase, ...]


class Packs(Told):
    """packing.json; None: not decided yet."""

    num_groups: Annotated[int, Field(ge=1)]
    packing: Word | None = None


class Start(Told):
    host: Word = ""
    world: dict[str, Word] = {}

    def number(self, variable: str) -> int:
        text = self.world.get(variable, "")
        return int(text) if text.isdecimal() else 0


class Environment(Told):
    starts: tuple[Start, ...]


class Job(Told):
    """A line of logs/jobs.jsonl."""

    job: Word = ""
    kind: Word = ""

    @property
    def is_queued(self) -> bool:
        """Does the job now wait in Slurm's queue?"""
        return self.is_requeued or self.kind.startswith("submit")

    @property
    def is_requeued(self) -> bool:
        return self.kind.startswith("requeue")


class Point(Told):
    """rank_0.json of a recovery point."""

    document: dict[str, Any]

    @property
    def steps(self) -> int:
        """Those done."""
        steps = self.document.get("steps")
        return steps if isinstance(steps, int) and steps > 0 else 0


class Metrics(Told):
    """metrics.json of a candidate."""

    seconds: Annotated[float, Field(ge=0)] | None = None
    epochs: tuple[Any, ...] = ()
