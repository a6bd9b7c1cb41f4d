"""Candidates in the making on my group: retrained, measured and stored; alone or in packs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from sms_dist.engines.packed import PackedEngine, PackedPlace
from sms_dist.experiment.divergence import (
    Attempts,
    attempts_with,
    is_rejected,
    nth_attempt,
    reason_of,
    reject,
)
from sms_dist.experiment.keeping import candidate_name, keeper, state_digest
from sms_dist.methods.packs import Turn
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.pruning.mask import digest, sparsity
from sms_dist.run import store
from sms_dist.run.logbook import GroupWatcher, Logbook
from sms_dist.run.paths import LATENT, MASK, METRICS, WEIGHTS
from sms_dist.run.recovery import forget
from sms_dist.run.schema import CandidateMetrics
from sms_dist.tasks.base import Metrics
from sms_dist.training.context import Context
from sms_dist.training.evaluation import measured
from sms_dist.training.recovery import Keeper
from sms_dist.training.retrain import (
    Retrained,
    Retraining,
    Start,
    StartOf,
    begin,
    prepare,
    retrain,
    retrain_together,
)

Made = tuple[Retrained, CandidateMetrics]
DIVERGED = Retrained({}, {}, [], is_finite=False)


@dataclass(frozen=True)
class Attempt:
    """A candidate with the seed of this attempt, after those that were rejected."""

    candidate: Candidate
    start: Start | None  # None: it diverged in an earlier phase
    watcher: GroupWatcher
    earlier: Attempts


@dataclass(frozen=True)
class Making:
    """The candidates of a phase. Every rank of my group must call; no other takes part."""

    context: Context
    log: Logbook
    phase: Phase
    start_of: StartOf

    def turn(self, turn: Turn, wave: int, failed: Mapping[int, Attempts]) -> dict[int, Made]:
        """The candidates of a turn; `failed`: what was tried of some of them."""
        if not turn.pack:
            (candidate,) = turn.candidates
            return {candidate.index: self._alone(candidate, wave, failed.get(candidate.index, ()))}
        made = self._together(turn, wave)
        for candidate in turn.candidates:
            record = made[candidate.index][1]
            if is_rejected(self.context.config.candidates, record):
                made[candidate.index] = self._alone(candidate, wave, attempts_with(record))
        return made

    def _alone(self, candidate: Candidate, wave: int, attempts: Attempts) -> Made:
        """A candidate after these attempts; as long as it is not finite and may be, tried again."""
        self._tell([candidate], wave)
        start = self.start_of(candidate)
        while True:
            attempt = self._attempt(nth_attempt(candidate, attempts), start, attempts)
            result = DIVERGED
            if start is not None:
                points = self._keeper(start, attempt.candidate)
                result = retrain(self.context, start, attempt.candidate, attempt.watcher, points)
            made = self._concluded(attempt, result)
            if not is_rejected(self.context.config.candidates, made[1]):
                return made
            attempts = attempts_with(made[1])

    def _together(self, turn: Turn, wave: int) -> dict[int, Made]:
        """The first attempts of a pack."""
        attempts = {c.index: self._attempt(c, self.start_of(c), ()) for c in turn.candidates}
        going = {i: attempt for i, attempt in attempts.items() if attempt.start is not None}
        made = {i: self._concluded(attempts[i], DIVERGED) for i in attempts.keys() - going.keys()}
        if not going:
            return made
        engine, pack = self._packed(turn.pack, going)
        self._tell([attempt.candidate for attempt in going.values()], wave)
        _speak_for_all([attempt.watcher for attempt in going.values()])
        for place, result in retrain_together(engine, self.context, pack):
            attempt = going.pop(turn.pack[place].index)
            i = attempt.candidate.index
            self.log.set_stage("batch norm", phase=self.phase.index, candidate=i, together=())
            made[i] = self._concluded(attempt, result)
            if going:
                self._tell([attempt.candidate for attempt in going.values()], wave)
                _speak_for_all([attempt.watcher for attempt in going.values()])
        return made

    def _packed(
        self, pack: Sequence[Candidate], going: Mapping[int, Attempt]
    ) -> tuple[PackedEngine, dict[int, Retraining[PackedPlace]]]:
        """The engine of a pack, and those that train in it by their places."""
        lengths = [c.retrain.epochs * self.context.loaders.train.num_steps for c in pack]
        ready = {}
        for place, candidate in enumerate(pack):
            attempt = going.get(candidate.index)
            if attempt is not None and attempt.start is not None:
                ready[place] = prepare(self.context, attempt.start, candidate)
        jobs = [ready[place].job if place in ready else None for place in range(len(pack))]
        engine = PackedEngine(jobs, lengths)
        begun = {}
        for place, prepared in ready.items():
            points = self._keeper(prepared.start, prepared.candidate, pack=lengths)
            watcher = going[prepared.candidate.index].watcher
            begun[place] = begin(prepared, engine.place(place), watcher, points)
        return engine, begun

    def _attempt(self, candidate: Candidate, start: Start | None, earlier: Attempts) -> Attempt:
        name = f"phase_{self.phase.index}/candidate_{candidate.index}"
        num_epochs, num_steps = candidate.retrain.epochs, self.context.loaders.train.num_steps
        watcher = self.log.watcher(name, num_epochs, num_steps, speaks=self.log.is_leader)
        return Attempt(candidate, start, watcher, earlier)

    def _concluded(self, attempt: Attempt, result: Retrained) -> Made:
        """Measure and store what has become of a candidate, or tell that it is rejected."""
        context, k, i = self.context, self.phase.index, attempt.candidate.index
        metrics = Metrics()
        if result.is_finite:
            state, metrics = measured(context, result.state, context.mesh.data, self.log.set_stage)
            result = replace(result, state=state)
        if result.is_finite and self.phase.has_own_masks:
            metrics = {"sparsity": sparsity(result.mask), **metrics}
        record = self._record(attempt, result, metrics)
        if context.mesh.is_leader:
            paths = self.log.paths
            if is_rejected(context.config.candidates, record):
                reject(paths, k, [record])
            else:
                tensors = _tensors(self.phase, result)
                store.save(paths.candidate(k, i), tensors, {METRICS: record.as_json()})
            forget(paths.recovery(candidate_name(k, i)))
        return result, record

    def _record(self, attempt: Attempt, result: Retrained, metrics: Metrics) -> CandidateMetrics:
        candidate, watcher = attempt.candidate, attempt.watcher
        watcher.close(metrics)
        return CandidateMetrics(
            index=candidate.index,
            seed=candidate.seed,
            retrain=candidate.retrain,
            diverged=not result.is_finite,
            metrics={f"test_{self.context.task.score}": None, **metrics},
            epochs=tuple(result.epochs),
            seconds=watcher.seconds,
            resumed_at=tuple(watcher.resumed_at) or None,
            attempts=tuple(attempt.earlier) or None,
            divergence=None if result.is_finite else reason_of(attempt.start, result),
        )

    def _tell(self, candidates: Sequence[Candidate], wave: int) -> None:
        """Where my group is now."""
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

    def _keeper(self, start: Start, candidate: Candidate, **facts: Any) -> Keeper:
        context, name = self.context, candidate_name(start.phase.index, candidate.index)
        facts |= {"seed": candidate.seed, "mask": digest(start.held)}
        facts |= {"start": state_digest(start.state)}
        return keeper(context, self.log.paths, name, context.mesh.data, **facts)


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


def _speak_for_all(watchers: Sequence[GroupWatcher]) -> None:
    """The longest training tells of the progress of those that train with it."""
    longest = max(watchers, key=lambda watcher: watcher.num_epochs)
    for watcher in watchers:
        watcher.stands_for = len(watchers) if watcher is longest else 0
