"""The status of a run in words: label and text, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.amounts import about, ago, bytes_text, span
from launcher.status.document import Document

MAX_LINES = 6  # of recovery points, warnings and so on
Line = tuple[str, str]


def head(document: Document) -> str:
    method, data, model = (document[key] or "?" for key in ("method", "data", "model"))
    return f"{document['name']}: {method} on {data}, {model}"


def work(document: Document) -> Iterator[Line]:
    """What comes before the groups."""
    phase, left = document["phase"], document["seconds_left"]
    if phase:
        yield "phase", _phase(phase)
    if left and (left["phase"] is not None or left["run"] is not None):
        yield "left", _left(left, document["state"] == "running")


def records(document: Document) -> Iterator[Line]:
    """What comes after the groups; what has been said is not said again."""
    yield from _last("recovery", [_point(point) for point in document["recovery"]])
    yield "starts", _starts(document)
    yield "disk", f"{bytes_text(document['disk_bytes'])} in {document['run']}"
    for event in document["events"]:
        yield "events", f"{_age(event):>10} ago  {event['event']}: {event['text']}"
    shown = [event["text"] for event in document["events"]]
    faults = [event for event in document["faults"] if event["text"] not in shown]
    yield from _last("faults", [f"{each['event']}: {each['text']}" for each in faults])
    yield from _last("warnings", [text for text in document["warnings"] if text not in shown])
    yield from _last("damaged", document["damaged"])


def row(document: Document) -> tuple[str, ...]:
    """Of a run among others: phase, candidates, left, last sign."""
    phase, left, sign = document["phase"], document["seconds_left"], document["last_sign"]
    place = counts = ""
    if phase:
        place = f"{phase['index']}/{phase['num_phases']}"
    if phase and phase["index"]:
        total = sum(len(phase[key]) for key in ("done", "at_work", "to_do"))
        counts = f"{len(phase['done'])}/{total}"
    run = left["run"] if left else None
    age = ago(sign["age"], sign["is_exact"]) if sign else ""
    return place, counts, "" if run is None else about(run), age


def _phase(phase: Document) -> str:
    if phase["index"] == 0:
        return f"pretraining, before {phase['num_phases']} phases"
    counts = [
        f"{len(phase[key])} {words}"
        for key, words in (("done", "done"), ("at_work", "at work"), ("to_do", "to do"))
    ]
    sparsity = "" if phase["sparsity"] is None else f", sparsity {100 * phase['sparsity']:.2f}%"
    return f"{phase['index']} of {phase['num_phases']}{sparsity}; candidates: {', '.join(counts)}"


def _left(left: Document, is_running: bool) -> str:
    words = [
        f"{name} {about(left[key])}" if left[key] is not None else f"{name} not known yet"
        for name, key in (("this phase", "phase"), ("the run", "run"))
    ]
    return ", ".join(words) + ("" if is_running else ", once it goes on")


def _point(point: Document) -> str:
    of = "" if point["num_steps"] is None else f" of {point['num_steps']:,}"
    return f"{point['of']}: step {point['steps']:,}{of}, {ago(point['age'])}"


def _starts(document: Document) -> str:
    words = [str(document["starts"])]
    if document["restarts"]:
        words.append(f"{document['restarts']} of them by torchrun")
    if document["jobs"]:
        plural = "s" if len(document["jobs"]) > 1 else ""
        words.append(f"job{plural} {', '.join(document['jobs'])}")
        words.append(f"requeued {document['requeues']} times")
    return "; ".join(words)


def _age(event: Document) -> str:
    return "some time" if event["age"] is None else span(max(0.0, event["age"]))


def _last(label: str, texts: Sequence[str]) -> Iterator[Line]:
    rest = len(texts) - MAX_LINES
    if rest > 0:
        yield label, f"({rest} more: see --json)"
    for text in texts[-MAX_LINES:]:
        yield label, text
