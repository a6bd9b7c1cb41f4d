"""The candidates of a phase: retrained in waves over the groups, measured and stored.

A candidate that is on disk is only read. `_Group.retrained` is the whole way of one candidate;
`_Group.retrained_stack` is that of several that train together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sms_dist.experiment.divergence import (
    Attempts,
    attempts_with,
    conclude,
    failures,
    is_rejected,
    judged,
    nth_attempt,
    reason_of,
    reject,
    reject_retryable,
)
from sms_dist.mesh.collectives import from_first, gather_json
from sms_dist.mesh.division import deal
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.pruning.mask import Mask
from sms_dist.run import store
from sms_dist.run.checkpoint_files import forget
from sms_dist.run.logbook import GroupWatcher, Logbook
from sms_dist.run.paths import LATENT, MASK, METRICS, WEIGHTS
from sms_dist.run.schema import CandidateMetrics
from sms_dist.stacks import Stack, stacks_of
from sms_dist.stacks.choice import choose_stack_size
from sms_dist.stacks.loop import retrain_stack, stack_lengths
from sms_dist.tasks.base import Metrics
from sms_dist.training.checkpoints import Checkpointer, checkpointer, state_digest
from sms_dist.training.context import Context, State
from sms_dist.training.evaluation import measured
from sms_dist.training.retrain import Retrained, Start, StartOf, retrain

Result = tuple[Retrained, CandidateMetrics]
DIVERGED = Retrained({}, Mask({}), [], is_finite=False)


@dataclass(frozen=True)
class Candidates:
    """All candidates of a phase, of which each group holds some."""

    held: dict[int, Retrained]  # those of this group
    owners: dict[int, int]  # the group that holds each, in candidate order
    records: dict[int, CandidateMetrics]  # of each, in candidate order

    @property
    def finite(self) -> list[int]:
        """Return those that did not diverge."""
        return [i for i, record in self.records.items() if not record.diverged]

    def test_scores(self, score: str) -> dict[int, float]:
        """Return the score on test samples of those that did not diverge."""
        scores = {i: self.records[i].test(score) for i in self.finite}
        return {i: value for i, value in scores.items() if value is not None}

    @property
    def finite_owners(self) -> dict[int, int]:
        """Return the group of each that did not diverge."""
        return {i: self.owners[i] for i in self.finite}

    @property
    def own(self) -> dict[int, Retrained]:
        """Return those of this group that did not diverge."""
        return {i: self.held[i] for i in self.finite if i in self.held}


def retrained(context: Context, log: Logbook, phase: Phase, start_of: StartOf) -> Candidates:
    """Return every candidate of the phase, retrained now or read from disk.

    Every rank must call. Groups retrain in waves without waiting for each other; then all judge
    together which candidates diverged, and those that may be are retrained with another seed.
    """
    mesh, k, group = context.mesh, phase.index, _Group(context, log, phase, start_of)
    failed = failures(context, log, phase)
    done = from_first(
        lambda: [
            c.index for c in phase.candidates if store.is_complete(log.paths.candidate(k, c.index))
        ],
        mesh.world,
        mesh.device,
    )
    ready = [c for c in phase.candidates if c.index in done]
    todo = [c for c in phase.candidates if c.index not in done]
    mine = {c.index: group.stored(c) for c in deal(ready, mesh.num_groups, mesh.group)}
    owners = _owners([(c,) for c in ready], mesh.num_groups)
    size = choose_stack_size(context, log, phase, start_of) if todo else 1
    while True:
        stacks = stacks_of(phase, todo, failed.keys(), size)
        for wave, stack in enumerate(deal(stacks, mesh.num_groups, mesh.group), 1):
            if stack.is_single:
                candidate = stack.todo[0]
                attempts = failed.get(candidate.index, ())
                mine[candidate.index] = group.retrained(candidate, wave, attempts)
            else:
                mine |= group.retrained_stack(stack, wave)
        owners |= _owners([stack.todo for stack in stacks], mesh.num_groups)
        log.set_stage("waiting", phase=k, candidate=None)
        mesh.control.meet()
        records = judged(context.config.candidates, _records_of_all(context, mine))
        failed = reject_retryable(context, log, phase, records)
        if not failed:
            break
        todo = [c for c in phase.candidates if c.index in failed]
        mine = {i: result for i, result in mine.items() if i not in failed}
    conclude(context, log, phase, records)
    held = {i: result for i, (result, _) in mine.items()}
    return Candidates(held, dict(sorted(owners.items())), records)


@dataclass(frozen=True)
class _Group:
    """This group's work on the candidates of a phase.

    Every rank of the group must call every method; no other takes part.
    """

    context: Context
    log: Logbook
    phase: Phase
    start_of: StartOf

    def retrained(self, candidate: Candidate, wave: int, attempts: Attempts) -> Result:
        """Return a candidate: trained from its start, measured and stored.

        While it is not finite and may be tried again, it is, with another seed. `attempts` are
        those that were rejected before.
        """
        start = self.start_of(candidate)
        while True:
            attempt = nth_attempt(candidate, attempts)
            watcher, result = self._watcher(attempt), DIVERGED
            self._set_stage([attempt], {attempt.index: watcher}, wave)
            if start is not None:  # else it diverged in an earlier phase
                checkpoints = self._checkpointer(start, attempt)
                result = retrain(self.context, start, attempt, watcher, checkpoints)
            result, record = self._measured_and_stored(attempt, start, result, watcher, attempts)
            if not is_rejected(self.context.config.candidates, record):
                return result, record
            attempts = attempts_with(record)

    def retrained_stack(self, stack: Stack, wave: int) -> dict[int, Result]:
        """Return the candidates of a stack, by index: trained together, each stored as it ends.

        One that is to be tried again then trains by itself.
        """
        starts = {c.index: start for c in stack.todo if (start := self.start_of(c)) is not None}
        results = {
            c.index: self._measured_and_stored(c, None, DIVERGED, self._watcher(c))
            for c in stack.todo
            if c.index not in starts
        }
        going = [c for c in stack.todo if c.index in starts]
        watchers = {c.index: self._watcher(c) for c in going}
        lengths = stack_lengths(self.context, stack)
        checkpoints = {c.index: self._checkpointer(starts[c.index], c, pack=lengths) for c in going}
        self._set_stage(going, watchers, wave)
        for candidate, result in retrain_stack(self.context, stack, starts, watchers, checkpoints):
            i = candidate.index
            going.remove(candidate)
            self.log.set_stage("batch norm", phase=self.phase.index, candidate=i, together=())
            results[i] = self._measured_and_stored(candidate, starts[i], result, watchers[i])
            self._set_stage(going, watchers, wave)
        for candidate in stack.todo:
            record = results[candidate.index][1]
            if is_rejected(self.context.config.candidates, record):
                results[candidate.index] = self.retrained(candidate, wave, attempts_with(record))
        return results

    def stored(self, candidate: Candidate) -> Result:
        """Return a candidate that is on disk."""
        folder = self.log.paths.candidate(self.phase.index, candidate.index)
        record = store.load_record(folder, METRICS, CandidateMetrics)
        if record.diverged:
            return DIVERGED, record

        def tensors(file: str) -> State:
            return self.context.on_device(store.load_tensors(folder, file))

        if self.phase.has_own_masks:
            read = tensors(MASK)
            mask = Mask({name: read[name] for name in self.context.prunable})
        else:
            start = self.start_of(candidate)
            assert start is not None
            mask = start.mask
        latent = tensors(LATENT) if (folder / LATENT).is_file() else None
        return Retrained(tensors(WEIGHTS), mask, [], is_finite=True, latent=latent), record

    def _measured_and_stored(
        self,
        candidate: Candidate,
        start: Start | None,
        result: Retrained,
        watcher: GroupWatcher,
        attempts: Attempts = (),
    ) -> Result:
        """Measure a candidate and store it, or record that it is rejected."""
        context, k, i = self.context, self.phase.index, candidate.index
        metrics = Metrics()
        if result.is_finite:
            state, metrics = measured(context, result.state, context.mesh.data, self.log.set_stage)
            result = replace(result, state=state)
            if self.phase.has_own_masks:
                metrics = {"sparsity": result.mask.sparsity, **metrics}
        watcher.close(metrics)
        record = CandidateMetrics(
            index=i,
            seed=candidate.seed,
            retrain=candidate.retrain,
            diverged=not result.is_finite,
            metrics={f"test_{context.task.score}": None, **metrics},
            epochs=tuple(result.epochs),
            seconds=watcher.seconds,
            resumed_at=tuple(watcher.resumed_at) or None,
            attempts=tuple(attempts) or None,
            divergence=None if result.is_finite else reason_of(start, result),
        )
        if context.mesh.is_leader:
            paths = self.log.paths
            if is_rejected(context.config.candidates, record):
                reject(paths, k, [record])
            else:
                files = _files(self.phase, result)
                store.save(paths.candidate(k, i), files, {METRICS: record.as_json()})
            forget(paths.recovery(_checkpoints_of(k, i)))
        return result, record

    def _watcher(self, candidate: Candidate) -> GroupWatcher:
        name = f"phase_{self.phase.index}/candidate_{candidate.index}"
        num_epochs, num_steps = candidate.retrain.epochs, self.context.loaders.train.num_steps
        return self.log.watcher(name, num_epochs, num_steps, speaks=self.log.is_leader)

    def _checkpointer(self, start: Start, candidate: Candidate, **identity: Any) -> Checkpointer:
        name = _checkpoints_of(self.phase.index, candidate.index)
        identity |= {"seed": candidate.seed, "mask": start.held.digest}
        identity |= {"start": state_digest(start.state)}
        return checkpointer(self.context, self.log.paths, name, self.context.mesh.data, **identity)

    def _set_stage(
        self, candidates: Sequence[Candidate], watchers: Mapping[int, GroupWatcher], wave: int
    ) -> None:
        """Show that the group trains these candidates, and how far the longest training is."""
        if not candidates:
            return
        k, indices = self.phase.index, [candidate.index for candidate in candidates]
        self.log.set_stage(
            "retrain",
            phase=k,
            candidate=indices[0],
            together=tuple(indices) if len(indices) > 1 else (),
            num_candidates=len(self.phase.candidates),
            wave=wave,
        )
        word = "candidates" if len(indices) > 1 else "candidate"
        self.context.mesh.control.set_place(f"phase {k}, {word} {', '.join(map(str, indices))}")
        longest = max(candidates, key=lambda candidate: candidate.retrain.epochs)
        for candidate in candidates:
            num = len(candidates) if candidate is longest else 0
            watchers[candidate.index].stands_for = num


def _files(phase: Phase, result: Retrained) -> dict[str, State | Mask]:
    """Return the tensors to store: none if it diverged; a mask if it has one of its own."""
    if not result.is_finite:
        return {}
    files: dict[str, State | Mask] = {WEIGHTS: result.state}
    if phase.has_own_masks:
        files[MASK] = result.mask
    if result.latent is not None:
        files[LATENT] = result.latent
    return files


def _checkpoints_of(phase: int, index: int) -> str:
    """Return the name of the folder with a candidate's checkpoints."""
    return f"phase_{phase}_candidate_{index}"


def _records_of_all(context: Context, mine: Mapping[int, Result]) -> dict[int, CandidateMetrics]:
    """Return the records of all groups, in candidate order. Every rank must call."""
    own = [record.as_json() for _, record in mine.values()] if context.mesh.is_leader else []
    parts = gather_json(own, context.mesh.world, context.mesh.device)
    records = [CandidateMetrics.model_validate(each) for part in parts for each in part]
    return {record.index: record for record in sorted(records, key=lambda each: each.index)}


def _owners(dealt: Sequence[Sequence[Candidate]], num_groups: int) -> dict[int, int]:
    """Return the group of each candidate, as `deal` deals them."""
    return {c.index: n % num_groups for n, some in enumerate(dealt) for c in some}
