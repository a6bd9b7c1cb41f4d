"""The candidates of a phase: retrained in waves over the groups; those on disk are only read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sms_dist.distributed.collectives import from_first, gather_json
from sms_dist.paths import METRICS, WEIGHTS
from sms_dist.phases import Candidate
from sms_dist.plan import deal
from sms_dist.records import store
from sms_dist.records.logbook import Logbook
from sms_dist.training.evaluation import Metrics, measured
from sms_dist.training.retrain import Retrained, Start, retrain
from sms_dist.training.workbench import State, Workbench

Document = dict[str, Any]


@dataclass(frozen=True)
class Candidates:
    """All candidates of a phase, of which each group holds some."""

    states: dict[int, State]  # of those that my group holds
    owners: dict[int, int]  # the group that holds each, in candidate order
    documents: dict[int, Document]  # what was measured, of each, in candidate order

    @property
    def finite(self) -> list[int]:
        return [i for i, document in self.documents.items() if not document["diverged"]]


def retrained(bench: Workbench, book: Logbook, start: Start) -> Candidates:
    """Every candidate of the phase. Every rank must call; inside, groups go their own ways."""
    at, everyone, k = bench.at, start.phase.candidates, start.phase.index
    done = from_first(
        lambda: [c.index for c in everyone if store.is_complete(book.paths.candidate(k, c.index))],
        at.world,
        at.device,
    )
    ready = [c for c in everyone if c.index in done]
    todo = [c for c in everyone if c.index not in done]
    mine: dict[int, tuple[State, Document]] = {}
    for candidate in deal(ready, at.num_groups, at.group):
        mine[candidate.index] = _stored(bench, book, k, candidate)
    for wave, candidate in enumerate(deal(todo, at.num_groups, at.group), 1):
        place = {"candidate": candidate.index, "num_candidates": len(everyone), "wave": wave}
        book.at("retrain", phase=k, **place)
        mine[candidate.index] = _made(bench, book, start, candidate)
    book.at("waiting", phase=k, candidate=None)
    states = {i: state for i, (state, _) in mine.items()}
    documents = _shared(bench, {i: document for i, (_, document) in mine.items()})
    return Candidates(states, _owners([ready, todo], at.num_groups), documents)


def _made(
    bench: Workbench, book: Logbook, start: Start, candidate: Candidate
) -> tuple[State, Document]:
    """Retrain, measure and store one candidate. Every rank of the group must call."""
    k, i = start.phase.index, candidate.index
    num_steps = bench.loaders.train.num_steps
    watcher = book.watcher(
        f"phase_{k}/candidate_{i}", candidate.retrain.epochs, num_steps, speaks=book.is_leader
    )
    result = retrain(bench, start, candidate, watcher)
    state, metrics = result.state, Metrics()
    if result.is_finite:
        book.at("evaluate")
        state, metrics = measured(bench, state, bench.at.data)
    document = _document(candidate, result, metrics) | {"seconds": watcher.close(metrics)}
    if bench.at.is_leader:
        tensors = {WEIGHTS: state} if result.is_finite else {}
        store.save(book.paths.candidate(k, i), tensors, {METRICS: document})
    return state, document


def _document(candidate: Candidate, result: Retrained, metrics: dict[str, float]) -> Document:
    return {
        "index": candidate.index,
        "seed": candidate.seed,
        "retrain": candidate.retrain.model_dump(),
        "diverged": not result.is_finite,
        "test_accuracy": None,
        **metrics,
        "epochs": [asdict(epoch) for epoch in result.epochs],
    }


def _stored(
    bench: Workbench, book: Logbook, phase: int, candidate: Candidate
) -> tuple[State, Document]:
    folder = book.paths.candidate(phase, candidate.index)
    document = store.load_document(folder, METRICS)
    if document["diverged"]:
        return {}, document
    return bench.on_device(store.load_tensors(folder, WEIGHTS)), document


def _shared(bench: Workbench, mine: dict[int, Document]) -> dict[int, Document]:
    """The documents of all groups, in candidate order. Every rank must call."""
    told = {str(i): document for i, document in mine.items()} if bench.at.is_leader else {}
    parts = gather_json(told, bench.at.world, bench.at.device)
    together = {int(i): document for part in parts for i, document in part.items()}
    return dict(sorted(together.items()))


def _owners(parts: list[list[Candidate]], num_groups: int) -> dict[int, int]:
    """The group of each candidate, as `deal` deals each part, in candidate order."""

    def group(part: Sequence[Candidate]) -> dict[int, int]:
        return {c.index: place % num_groups for place, c in enumerate(part)}

    return dict(sorted((group(parts[0]) | group(parts[1])).items()))
