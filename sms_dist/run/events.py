"""The events of journal.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from sms_dist.run.schema import (
    CandidateMetrics,
    DenseMetrics,
    Divergence,
    FinalMetrics,
    Listed,
    OodMetrics,
    PhaseMetrics,
    Record,
)


class Event(Record):
    """A line of the journal, which sets the time."""

    time: str = ""  # ISO, UTC
    event: str = ""

    @property
    def seconds(self) -> float | None:
        """The time in seconds since 1970, None where it is none."""
        try:
            return datetime.fromisoformat(self.time).timestamp()
        except (ValueError, OverflowError):
            return None


class OtherEvent(Event):
    """An event of a later version, with all its keys."""

    model_config = ConfigDict(extra="allow")


def _facts_only(values: Any) -> Any:
    if not isinstance(values, Mapping):
        return values
    others = values.keys() - StartEvent.model_fields.keys()
    return {key: v for key, v in values.items() if key in others and isinstance(v, str | int)}


Facts = Annotated[dict[str, str | int], BeforeValidator(_facts_only)]


class StartEvent(Event):
    FLAT = ("facts",)

    event: Literal["start"] = "start"
    ranks: int | None = None
    groups: int | None = None
    resumed: bool = False
    task: str | None = None
    score: str | None = None  # the metric by which models are compared
    facts: Annotated[dict[str, str | int], BeforeValidator(_facts_only)] = Field(
        default_factory=dict
    )
    """What a reader of the metrics has to know of the task and the data."""


class DenseEvent(Event):
    FLAT = ("metrics",)

    event: Literal["dense"] = "dense"
    metrics: DenseMetrics


class CandidateEvent(Event):
    FLAT = ("metrics",)

    event: Literal["candidate"] = "candidate"
    phase: int
    metrics: CandidateMetrics


class SoupEvent(Event):
    FLAT = ("metrics",)

    event: Literal["soup"] = "soup"
    metrics: PhaseMetrics


class WarningEvent(Event):
    event: Literal["warning"] = "warning"
    phase: int | None = None
    message: str


class DivergenceEvent(Event):
    FLAT = ("divergence",)

    event: Literal["divergence"] = "divergence"
    phase: int
    candidate: int
    attempt: int
    action: Literal["dropped", "retried", "stopped"]
    seed: int
    divergence: Divergence


class DamagedSamplesEvent(Event):
    event: Literal["damaged samples"] = "damaged samples"
    where: str
    samples: Listed[str]


class PackingEvent(Event):
    event: Literal["packing"] = "packing"
    packing: str
    candidates: int
    together: float | None  # seconds of a step of all
    one_by_one: float
    message: str


class OodEvent(Event):
    FLAT = ("metrics",)

    event: Literal["ood"] = "ood"
    where: str  # dense or phase_2/soup: the model's folder
    metrics: OodMetrics


class DoneEvent(Event):
    FLAT = ("metrics",)

    event: Literal["done"] = "done"
    metrics: FinalMetrics


class StoppedEvent(Event):
    event: Literal["stopped"] = "stopped"
    reason: str


class FaultEvent(Event):
    event: Literal["fault"] = "fault"
    message: str


EVENTS: dict[str, type[Event]] = {
    kind.model_fields["event"].default: kind
    for kind in Event.__subclasses__()
    if kind is not OtherEvent
}


def event_type(values: Mapping[str, Any]) -> type[Event]:
    """Return the type of event that a line of the journal is."""
    name = values.get("event")
    return EVENTS.get(name, OtherEvent) if isinstance(name, str) else OtherEvent
