"""The candidates of a phase: retrained in waves over the groups; those on disk are only read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sms_dist.experiment.divergence import Attempts, conclude, failures, judged, reject_far
from sms_dist.experiment.making import DIVERGED, Made, Making
from sms_dist.experiment.packing import size_of_packs
from sms_dist.mesh.collectives import from_first, gather_json
from sms_dist.mesh.division import deal
from sms_dist.methods.packs import Turn, turns
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.run import store
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import LATENT, MASK, METRICS, WEIGHTS
from sms_dist.run.schema import CandidateMetrics
from sms_dist.training.retrain import Retrained, StartOf
from sms_dist.training.workbench import State, Workbench


@dataclass(frozen=True)
class Candidates:
    """All candidates of a phase, of which each group holds some."""

    held: dict[int, Retrained]  # those of my group
    owners: dict[int, int]  # the group that holds each, in candidate order
    records: dict[int, CandidateMetrics]  # of each, in candidate order

    @property
    def finite(self) -> list[int]:
        return [i for i, record in self.records.items() if not record.diverged]

    def test_scores(self, score: str) -> dict[int, float]:
        """Of those that did not diverge: all are measured."""
        found = {i: self.records[i].test(score) for i in self.finite}
        return {i: value for i, value in found.items() if value is not None}

    @property
    def finite_owners(self) -> dict[int, int]:
        return {i: self.owners[i] for i in self.finite}

    @property
    def own(self) -> dict[int, Retrained]:
        """Those of my group that did not diverge."""
        return {i: self.held[i] for i in self.finite if i in self.held}


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
    owners = _owners([Turn((candidate,)) for candidate in ready], at.num_groups)
    making = Making(bench, book, phase, start_of)
    size = size_of_packs(bench, book, phase, start_of) if todo else 1
    while True:
        dealt = turns(phase, todo, failed.keys(), size)
        mine |= _in_waves(making, dealt, failed)
        owners |= _owners(dealt, at.num_groups)
        book.at("waiting", phase=k, candidate=None)
        at.control.meet()
        shared = _shared(bench, {i: record for i, (_, record) in mine.items()})
        records = judged(bench.config.candidates, shared)
        failed = reject_far(bench, book, phase, records)
        if not failed:
            break
        todo = [c for c in everyone if c.index in failed]
        mine = {i: made for i, made in mine.items() if i not in failed}
    conclude(bench, book, phase, records)
    held = {i: result for i, (result, _) in mine.items()}
    return Candidates(held, dict(sorted(owners.items())), records)


def _in_waves(
    making: Making, dealt: Sequence[Turn], failed: Mapping[int, Attempts]
) -> dict[int, Made]:
    """Those that fall to my group, turn by turn. Every rank of the group must call."""
    at = making.bench.at
    mine: dict[int, Made] = {}
    for wave, turn in enumerate(deal(dealt, at.num_groups, at.group), 1):
        mine |= making.turn(turn, wave, failed)
    return mine


def _stored(
    bench: Workbench, book: Logbook, phase: Phase, candidate: Candidate, start_of: StartOf
) -> Made:
    folder = book.paths.candidate(phase.index, candidate.index)
    record = store.load_record(folder, METRICS, CandidateMetrics)
    if record.diverged:
        return DIVERGED, record

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
    return Retrained(tensors(WEIGHTS), mask, [], is_finite=True, latent=latent), record


def _shared(bench: Workbench, mine: dict[int, CandidateMetrics]) -> dict[int, CandidateMetrics]:
    """Return the records of all groups, in candidate order. Every rank must call."""
    own = [record.as_json() for record in mine.values()] if bench.at.is_leader else []
    parts = gather_json(own, bench.at.world, bench.at.device)
    records = [CandidateMetrics.model_validate(each) for part in parts for each in part]
    return {record.index: record for record in sorted(records, key=lambda each: each.index)}


def _owners(dealt: Sequence[Turn], num_groups: int) -> dict[int, int]:
    """The group of each candidate, as `deal` deals them."""
    return {c.index: n % num_groups for n, turn in enumerate(dealt) for c in turn.candidates}
