"""Candidates that diverge: they are dropped, retried with other seeds, or they end the run.

A candidate on disk never changes. All candidates that a judgement rejects are first recorded in one
folder, and then removed: a start after a kill in between finds the record and removes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from sms_dist.base.randomness import stream
from sms_dist.config import CandidatesConfig, RetrainConfig
from sms_dist.mesh.collectives import from_first
from sms_dist.methods.phases import Candidate, Phase
from sms_dist.run import store
from sms_dist.run.journal import DivergenceEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import METRICS, RunPaths
from sms_dist.run.schema import Attempt, CandidateMetrics, Divergence, Rejected
from sms_dist.soups.alarm import outliers
from sms_dist.training.context import Context
from sms_dist.training.retrain import Retrained, Start

Attempts = Sequence[Attempt]  # the rejected ones of a candidate


def nth_attempt(candidate: Candidate, attempts: Attempts) -> Candidate:
    """Return the candidate with another seed if there were attempts; it follows from its own."""
    if not attempts:
        return candidate
    seed = stream(candidate.seed, "retry", len(attempts)).key >> 32  # exact in any JSON reader
    return replace(candidate, seed=seed)


def attempts_with(record: CandidateMetrics) -> Attempts:
    """Return the rejected attempts of a candidate that diverged, with its own."""
    assert record.divergence is not None, record
    return (*(record.attempts or ()), Attempt(seed=record.seed, divergence=record.divergence))


def reason_of(start: Start | None, result: Retrained) -> Divergence:
    """Return why a candidate that is not finite counts as diverged."""
    if start is None:
        return Divergence(kind="earlier")
    last = result.epochs[-1]
    return Divergence(kind="not finite", epoch=last.epoch, loss=last.loss)


def is_rejected(policy: CandidatesConfig, record: CandidateMetrics) -> bool:
    """Return True if a candidate has diverged and may be tried again."""
    if policy.on_divergence != "retry" or not _is_new(record):
        return False
    return record.num_attempts < policy.retries


def judged(
    policy: CandidatesConfig, records: Mapping[int, CandidateMetrics]
) -> dict[int, CandidateMetrics]:
    """Return the records of a phase, where outliers among those retrained alike diverged too."""
    result = dict(records)
    if policy.far is None:
        return result
    for alike in _retrained_alike(records):
        losses = {i: epochs[-1].loss for i in alike if (epochs := records[i].epochs)}
        for i, median in outliers(losses, policy.far).items():
            divergence = Divergence(kind="far", loss=losses[i], median=median)
            update = {"diverged": True, "divergence": divergence}
            result[i] = records[i].model_copy(update=update)
    return result


def _retrained_alike(records: Mapping[int, CandidateMetrics]) -> Iterable[list[int]]:
    """Yield groups of finite candidates with the same retraining: others may differ on purpose."""
    groups: dict[RetrainConfig | None, list[int]] = {}
    for i, record in records.items():
        if not record.diverged:
            groups.setdefault(record.retrain, []).append(i)
    return groups.values()


def failures(context: Context, log: Logbook, phase: Phase) -> dict[int, Attempts]:
    """Return the attempts that earlier starts rejected, by candidate, and remove their candidates.

    Every rank must call.
    """
    mesh, policy = context.mesh, context.config.candidates
    rejected = from_first(lambda: _rejected(policy, log.paths, phase), mesh.world, mesh.device)
    return {int(i): tuple(map(Attempt.model_validate, each)) for i, each in rejected.items()}


def _rejected(
    policy: CandidatesConfig, paths: RunPaths, phase: Phase
) -> dict[str, list[dict[str, Any]]]:
    """Return the attempts as JSON."""
    k, recorded = phase.index, _recorded(paths.rejected(phase.index))
    for folder, i in [(paths.candidate(k, c.index), c.index) for c in phase.candidates]:
        if not store.is_complete(folder):
            continue
        record = store.load_record(folder, METRICS, CandidateMetrics)
        if len(recorded.get(i, ())) > record.num_attempts:
            store.discard(folder)  # the start that rejected it was killed
        elif is_rejected(policy, record):  # stored under another policy
            reject(paths, k, [record])
            recorded[i] = attempts_with(record)
    return {str(i): [attempt.as_json() for attempt in each] for i, each in recorded.items()}


def _recorded(folder: Path) -> dict[int, Attempts]:
    """Return each candidate's last rejected attempt and those before it."""
    recorded: dict[int, Attempts] = {}
    for judgement in folder.glob("candidate_*"):  # not what a crashed save left: names with a dot
        for record in store.load_record(judgement, METRICS, Rejected).root:
            i, attempts = record.index, attempts_with(record)
            recorded[i] = max(recorded.get(i, ()), attempts, key=len)
    return recorded


def reject_retryable(
    context: Context, log: Logbook, phase: Phase, records: Mapping[int, CandidateMetrics]
) -> dict[int, Attempts]:
    """Reject the candidates that diverged and may be tried again; return their attempts up to now.

    Every rank must call, with the records of all candidates.
    """
    again = [each for each in records.values() if is_rejected(context.config.candidates, each)]
    if not again:
        return {}
    mesh, k = context.mesh, phase.index
    from_first(lambda: reject(log.paths, k, again), mesh.world, mesh.device)
    return {record.index: attempts_with(record) for record in again}


def reject(paths: RunPaths, phase: int, records: Sequence[CandidateMetrics]) -> None:
    """Record the attempts, all of them or none, and remove what is stored. One rank calls."""
    name = f"candidate_{records[0].index}_attempt_{records[0].num_attempts}"
    documents = [record.as_json() for record in records]
    store.save(paths.rejected(phase) / name, {}, {METRICS: documents})
    for record in records:
        folder = paths.candidate(phase, record.index)
        if store.is_complete(folder):
            store.discard(folder)


def conclude(
    context: Context, log: Logbook, phase: Phase, records: Mapping[int, CandidateMetrics]
) -> None:
    """Write to the journal which candidates diverged; ValueError if the policy is to stop."""
    is_stopping = context.config.candidates.on_divergence == "stop"
    final = [record for record in records.values() if _is_new(record)]
    for i, record in records.items():
        attempts = record.attempts or ()
        for n, attempt in enumerate(attempts_with(record) if _is_new(record) else attempts):
            last: Literal["stopped", "dropped"] = "stopped" if is_stopping else "dropped"
            log.event(
                DivergenceEvent(
                    phase=phase.index,
                    candidate=i,
                    attempt=n,
                    action="retried" if n < len(attempts) else last,
                    seed=attempt.seed,
                    divergence=attempt.divergence,
                )
            )
    if is_stopping and final:
        raise ValueError(_complaint(phase, final))


def _is_new(record: CandidateMetrics) -> bool:
    """Return True if a candidate diverged in this phase, not in an earlier one."""
    return record.diverged and record.divergence is not None and record.divergence.kind != "earlier"


def _complaint(phase: Phase, records: Sequence[CandidateMetrics]) -> str:
    text = ", and ".join(
        f"candidate {each.index} (seed {each.seed}) diverged: {each.divergence.reason}"
        for each in records
        if each.divergence is not None
    )
    return (
        f"phase {phase.index}: {text}; start again with candidates.on_divergence=drop or retry to "
        "go on, or in another run folder with a lower retrain.learning_rate"
    )
