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
from sms_dist.training.context import Context, State
from sms_dist.training.retrain import Retrained, StartOf


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


def retrained(context: Context, log: Logbook, phase: Phase, start_of: StartOf) -> Candidates:
    """Every candidate of the phase. Every rank must call; inside, groups go their own ways."""
    mesh, everyone, k = context.mesh, phase.candidates, phase.index
    failed = failures(context, log, phase)
    done = from_first(
        lambda: [c.index for c in everyone if store.is_complete(log.paths.candidate(k, c.index))],
        mesh.world,
        mesh.device,
    )
    ready = [c for c in everyone if c.index in done]
    todo = [c for c in everyone if c.index not in done]
    mine: dict[int, Made] = {}
    for candidate in deal(ready, mesh.num_groups, mesh.group):
        mine[candidate.index] = _stored(context, log, phase, candidate, start_of)
    owners = _owners([Turn((candidate,)) for candidate in ready], mesh.num_groups)
    making = Making(context, log, phase, start_of)
    size = size_of_packs(context, log, phase, start_of) if todo else 1
    while True:
        dealt = turns(phase, todo, failed.keys(), size)
        mine |= _in_waves(making, dealt, failed)
        owners |= _owners(dealt, mesh.num_groups)
        log.set_stage("waiting", phase=k, candidate=None)
        mesh.control.meet()
        shared = _shared(context, {i: record for i, (_, record) in mine.items()})
        records = judged(context.config.candidates, shared)
        failed = reject_far(context, log, phase, records)
        if not failed:
            break
        todo = [c for c in everyone if c.index in failed]
        mine = {i: made for i, made in mine.items() if i not in failed}
    conclude(context, log, phase, records)
    held = {i: result for i, (result, _) in mine.items()}
    return Candidates(held, dict(sorted(owners.items())), records)


def _in_waves(
    making: Making, dealt: Sequence[Turn], failed: Mapping[int, Attempts]
) -> dict[int, Made]:
    """Those that fall to my group, turn by turn. Every rank of the group must call."""
    mesh = making.context.mesh
    mine: dict[int, Made] = {}
    for wave, turn in enumerate(deal(dealt, mesh.num_groups, mesh.group), 1):
        mine |= making.turn(turn, wave, failed)
    return mine


def _stored(
    context: Context, log: Logbook, phase: Phase, candidate: Candidate, start_of: StartOf
) -> Made:
    folder = log.paths.candidate(phase.index, candidate.index)
    record = store.load_record(folder, METRICS, CandidateMetrics)
    if record.diverged:
        return DIVERGED, record

    def tensors(file: str) -> State:
        return context.on_device(store.load_tensors(folder, file))

    if phase.has_own_masks:
        read = tensors(MASK)
        mask = {name: read[name] for name in context.prunable}
    else:
        start = start_of(candidate)
        assert start is not None
        mask = start.mask
    latent = tensors(LATENT) if (folder / LATENT).is_file() else None
    return Retrained(tensors(WEIGHTS), mask, [], is_finite=True, latent=latent), record


def _shared(context: Context, mine: dict[int, CandidateMetrics]) -> dict[int, CandidateMetrics]:
    """Return the records of all groups, in candidate order. Every rank must call."""
    own = [record.as_json() for record in mine.values()] if context.mesh.is_leader else []
    parts = gather_json(own, context.mesh.world, context.mesh.device)
    records = [CandidateMetrics.model_validate(each) for part in parts for each in part]
    return {record.index: record for record in sorted(records, key=lambda each: each.index)}


def _owners(dealt: Sequence[Turn], num_groups: int) -> dict[int, int]:
    """The group of each candidate, as `deal` deals them."""
    return {c.index: n % num_groups for n, turn in enumerate(dealt) for c in turn.candidates}
