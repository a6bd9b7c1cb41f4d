"""The journal of a run: its events, one JSON object a line, on the disk before work goes on."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from sms_dist.base import plain
from sms_dist.base.files import finite, sync, telling
from sms_dist.run.schema import (
    CandidateMetrics,
    DenseMetrics,
    Divergence,
    FinalMetrics,
    Listed,
    OodMetrics,
    PhaseMetrics,
    Record,
    parsed,
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
    """A start of the run."""

    FLAT = ("facts",)

    event: Literal["start"] = "start"
    ranks: int | None = None
    groups: int | None = None
    resumed: bool = False
    task: str | None = None
    score: str | None = None  # the metric by which models are compared
    facts: Facts = Field(default_factory=dict)  # of the task and the data, for readers of metrics


class DenseEvent(Event):
    """The dense model is done."""

    FLAT = ("metrics",)

    event: Literal["dense"] = "dense"
    metrics: DenseMetrics


class CandidateEvent(Event):
    """A candidate is done."""

    FLAT = ("metrics",)

    event: Literal["candidate"] = "candidate"
    phase: int
    metrics: CandidateMetrics


class SoupEvent(Event):
    """A soup is done."""

    FLAT = ("metrics",)

    event: Literal["soup"] = "soup"
    metrics: PhaseMetrics


class WarningEvent(Event):
    """A warning for people."""

    event: Literal["warning"] = "warning"
    phase: int | None = None
    message: str


class DivergenceEvent(Event):
    """A candidate has diverged."""

    FLAT = ("divergence",)

    event: Literal["divergence"] = "divergence"
    phase: int
    candidate: int
    attempt: int
    action: Literal["dropped", "retried", "stopped"]
    seed: int
    divergence: Divergence


class DamagedSamplesEvent(Event):
    """Damaged samples were skipped."""

    event: Literal["damaged samples"] = "damaged samples"
    where: str
    samples: Listed[str]


class PackingEvent(Event):
    """A trial has decided how candidates are packed."""

    event: Literal["packing"] = "packing"
    packing: str
    candidates: int
    together: float | None  # seconds of a step of all
    one_by_one: float
    message: str


class OodEvent(Event):
    """A model was measured on corrupted samples."""

    FLAT = ("metrics",)

    event: Literal["ood"] = "ood"
    where: str  # dense or phase_2/soup: the model's folder
    metrics: OodMetrics


class ChangesEvent(Event):
    """Inputs of the run have changed, and it was told to go on with them."""

    event: Literal["changes"] = "changes"
    message: str


class DoneEvent(Event):
    """The run is complete."""

    FLAT = ("metrics",)

    event: Literal["done"] = "done"
    metrics: FinalMetrics


class StoppedEvent(Event):
    """The run has stopped on request."""

    event: Literal["stopped"] = "stopped"
    reason: str


class FaultEvent(Event):
    """The run has ended by a fault."""

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


class Journal:
    """One process appends; anyone may read at any time."""

    def __init__(self, path: Path) -> None:
        self.path, self._is_lasting = path, False

    def write(self, event: Event) -> None:
        """Append an event with the time of now; non-finite numbers become null.

        ValueError where the disk cannot take it.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        document = event.model_copy(update={"time": now}).as_json()
        line = json.dumps(finite(document), allow_nan=False)
        with telling(self.path):
            self._append(line.encode() + b"\n")

    def _append(self, line: bytes) -> None:
        if self._is_lasting and not self.path.exists():  # removed under us: not to be made again
            raise FileNotFoundError(errno.ENOENT, "it is gone")
        with self.path.open("ab+") as file:
            _end_last_line(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if not self._is_lasting:
            sync(self.path.parent)
            self._is_lasting = True


def read(path: Path) -> list[Event]:
    """Return the events so far (none if there is no file yet), without a torn last line.

    ValueError, one line, where another line is none of an event.
    """
    if not path.is_file():
        return []
    values = lines(path.read_bytes())
    for number, value in enumerate(values, start=1):
        if value is None:
            raise ValueError(f"{path}, line {number} is not a JSON object; repair or remove it")
    return [
        parsed(event_type(value), value, f"{path}, line {number}")
        for number, value in enumerate(values, start=1)
        if value is not None
    ]


def lines(content: bytes) -> list[dict[str, Any] | None]:
    """Return the object on each line, None for a damaged line; a torn last line is left out."""
    *whole, rest = content.split(b"\n")
    last = _parse(rest)
    return [*map(_parse, whole), *([] if last is None else [last])]


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, None if it is torn."""
    try:
        return plain.parse_object(line, "the line")
    except ValueError:
        return None


def _end_last_line(file: BinaryIO) -> None:
    """Make sure that the next byte appended starts a line.

    A crash in the middle of a write leaves a last line without its end. If only the newline is
    missing it is added; a fragment is cut off, else it would lie in the middle and spoil reading.
    """
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    last = file.read().rpartition(b"\n")[2]
    if _parse(last) is not None:
        file.write(b"\n")
    else:
        file.truncate(end - len(last))
