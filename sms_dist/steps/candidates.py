"""The candidates of a phase: retrained in waves over the groups; those on disk are only read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from sms_dist.distributed.collectives import from_first, gather_json
from sms_dist.paths import LATENT, MASK, METRICS, WEIGHTS
from sms_dist.phases import Candidate, Phase
from sms_dist.plan import deal
from sms_dist.pruning.mask import digest, sparsity
from sms_dist.records import store
from sms_dist.records.logbook import Logbook
from sms_dist.records.recovery import forget
from sms_dist.steps.divergence import (
    Attempts,
    attempts_with,
    conclude,
    failures,
    is_rejected,
    judged,
    nth_attempt,
    reason_of,
    reject,
    reject_far,
)
from sms_dist.steps.keeping import candidate_name, keeper, state_digest
from sms_dist.tasks.base import Metrics
from sms_dist.training.evaluation import measured
from sms_dist.training.recovery import Keeper
from sms_dist.training.retrain import Retrained, Start, retrain
from sms_dist.training.workbench import State, Workbench

Document = dict[str, Any]
DIVERGED = Retrained({}, {}, [], is_finite=False)


@dataclass(frozen=True)
class Candidates:
    """All candidates of a phase, of which each group holds some."""

    held: dict[int, Retrained]  # those of my group
    owners: dict[int, int]  # the group that holds each, in candidate order
    documents: dict[int, Document]  # what was measured, of each, in candidate order

    @property
    def finite(self) -> list[int]:
        return [i for i, document in self.documents.items() if not document["diverged"]]

    @property
    def finite_owners(self) -> dict[int, int]:
        return {i: self.owners[i] for i in self.finite}

    @property
    def own(self) -> dict[int, Retrained]:
        """Those of my group that did not diverge."""
        return {i: self.held[i] for i in self.finite if i in self.held}


StartOf = Callable[[Candidate], Start | None]  # None: it diverged in an earlier phase
Made = tuple[Retrained, Document]


def retrained(bench: Workbench, book: Logbook, phase: Phase, start_of: StartOf) -> Candidates:
    """Every candidate of the phase. Every rank must call; inside, groups go their own ways."""
    at, everyone, k = bench.at, phase.candidates, phase.index
    failed = failures(bench, book, phase)
    done = from_first(
        lambda: [c.index for c in everyone if store.is_complete(book.paths.candidate(k, c.index))],
        at.world,
        at.device,
    )
    ready = [c for c in everyone if c.index in done]
    todo = [c for c in everyone if c.index not in done]
    mine: dict[int, Made] = {}
    for candidate in deal(ready, at.num_groups, at.group):
        mine[candidate.index] = _stored(bench, book, phase, candidate, start_of)
    owners = _owners(ready, at.num_groups)
    while True:
        mine |= _in_waves(bench, book, phase, todo, start_of, failed)
        owners |= _owners(todo, at.num_groups)
        book.at("waiting", phase=k, candidate=None)
        at.control.meet()
        told = _shared(bench, {i: document for i, (_, document) in mine.items()})
        documents = judged(bench.config.candidates, told)
        failed = reject_far(bench, book, phase, documents)
        if not failed:
            break
        todo = [c for c in everyone if c.index in failed]
        mine = {i: made for i, made in mine.items() if i not in failed}
    conclude(bench, book, phase, documents)
    held = {i: result for i, (result, _) in mine.items()}
    return Candidates(held, dict(sorted(owners.items())), documents)


def _in_waves(
    bench: Workbench,
    book: Logbook,
    phase: Phase,
    todo: Sequence[Candidate],
    start_of: StartOf,
    failed: Mapping[int, Attempts],
) -> dict[int, Made]:
    """Those that fall to my group, one after another. Every rank of the group must call."""
    at, k = bench.at, phase.index
    mine: dict[int, Made] = {}
    for wave, candidate in enumerate(deal(todo, at.num_groups, at.group), 1):
        i, num_candidates = candidate.index, len(phase.candidates)
        book.at("retrain", phase=k, candidate=i, num_candidates=num_candidates, wave=wave)
        at.control.at(f"phase {k}, candidate {i}")
        attempts = failed.get(i, [])
        mine[i] = _tried(bench, book, phase, candidate, start_of(candidate), attempts)
    return mine


def _tried(
    bench: Workbench,
    book: Logbook,
    phase: Phase,
    candidate: Candidate,
    start: Start | None,
    attempts: Attempts,
) -> Made:
    """A candidate after these attempts; as long as it is not finite and may be, tried again.

    Every rank of the group must call.
    """
    while True:
        made = _made(bench, book, phase, nth_attempt(candidate, attempts), start, attempts)
        if not is_rejected(bench.config.candidates, made[1]):
            return made
        attempts = attempts_with(made[1])


def _made(
    bench: Workbench,
    book: Logbook,
    phase: Phase,
    candidate: Candidate,
    start: Start | None,
    attempts: Attempts,
) -> Made:
    """Retrain, measure and store one candidate. Every rank of the group must call."""
    k, i = phase.index, candidate.index
    num_epochs, num_steps = candidate.retrain.epochs, bench.loaders.train.num_steps
    name = f"phase_{k}/candidate_{i}"
    watcher = book.watcher(name, num_epochs, num_steps, speaks=book.is_leader)
    result, metrics = DIVERGED, Metrics()
    if start is not None:
        result = retrain(bench, start, candidate, watcher, _keeper(bench, book, start, candidate))
    if result.is_finite:
        state, metrics = measured(bench, result.state, bench.at.data, book.at)
        result = replace(result, state=state)
    if result.is_finite and phase.has_own_masks:
        metrics = {"sparsity": sparsity(result.mask), **metrics}
    document = _document(bench, candidate, result, metrics) | watcher.close(metrics)
    document |= {"attempts": list(attempts)} if attempts else {}
    if not result.is_finite:
        document |= {"divergence": reason_of(start, result)}
    if bench.at.is_leader:
        if is_rejected(bench.config.candidates, document):
            reject(book.paths, k, [document])
        else:
            store.save(book.paths.candidate(k, i), _tensors(phase, result), {METRICS: document})
        forget(book.paths.recovery(candidate_name(k, i)))
    return result, document


def _keeper(bench: Workbench, book: Logbook, start: Start, candidate: Candidate) -> Keeper:
    name = candidate_name(start.phase.index, candidate.index)
    facts = {"seed": candidate.seed, "mask": digest(start.held), "start": state_digest(start.state)}
    return keeper(bench, book.paths, name, bench.at.data, **facts)


def _tensors(phase: Phase, result: Retrained) -> dict[str, dict[str, Tensor]]:
    """The files of a candidate: none if it diverged; a mask if it has one of its own."""
    if not result.is_finite:
        return {}
    files = {WEIGHTS: result.state}
    if phase.has_own_masks:
        files[MASK] = result.mask
    if result.latent is not None:
        files[LATENT] = result.latent
    return files


def _document(
    bench: Workbench, candidate: Candidate, result: Retrained, metrics: Metrics
) -> Document:
    return {
        "index": candidate.index,
        "seed": candidate.seed,
        "retrain": candidate.retrain.model_dump(),
        "diverged": not result.is_finite,
        f"test_{bench.task.score}": None,
        **metrics,
        "epochs": [asdict(epoch) for epoch in result.epochs],
    }


def _stored(
    bench: Workbench, book: Logbook, phase: Phase, candidate: Candidate, start_of: StartOf
) -> Made:
    folder = book.paths.candidate(phase.index, candidate.index)
    document = store.load_document(folder, METRICS)
    if document["diverged"]:
        return DIVERGED, document

    def tensors(file: str) -> State:
        return bench.on_device(store.load_tensors(folder, file))

    if phase.has_own_masks:
        read = tensors(MASK)
        mask = {name: read[name] for name in bench.prunable}
    else:
        start = start_of(candidate)
        assert start is not None
        mask = start.mask
    latent = tensors(LATENT) if (folder / LATENT).is_file() else None
    return Retrained(tensors(WEIGHTS), mask, [], is_finite=True, latent=latent), document


def _shared(bench: Workbench, mine: dict[int, Document]) -> dict[int, Document]:
    """The documents of all groups, in candidate order. Every rank must call."""
    told = {str(i): document for i, document in mine.items()} if bench.at.is_leader else {}
    parts = gather_json(told, bench.at.world, bench.at.device)
    together = {int(i): document for part in parts for i, document in part.items()}
    return dict(sorted(together.items()))


def _owners(dealt: Sequence[Candidate], num_groups: int) -> dict[int, int]:
    """The group of each candidate, as `deal` deals them."""
    return {c.index: place % num_groups for place, c in enumerate(dealt)}
