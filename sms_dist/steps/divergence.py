"""What becomes of candidates that diverge: dropped, retried with other seeds, the end of the run.

A candidate on disk never changes. What is rejected is told first, all candidates of a judgement in
one folder, and then removed: a start that was killed in between finds the judgement and obeys it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sms_dist.config import CandidatesConfig
from sms_dist.distributed.collectives import from_first
from sms_dist.paths import METRICS, RunPaths
from sms_dist.phases import Candidate, Phase
from sms_dist.randomness import stream
from sms_dist.records import store
from sms_dist.records.logbook import Logbook
from sms_dist.reports.divergence import EARLIER, FAR, NOT_FINITE, reason
from sms_dist.soups.outliers import far
from sms_dist.training.retrain import Retrained, Start
from sms_dist.training.workbench import Workbench

Document = dict[str, Any]
Attempts = list[Document]  # of a candidate, those that were rejected: {"seed", "divergence"}
ACTIONS = {"drop": "dropped", "retry": "dropped", "stop": "stopped"}  # where no try is left


def nth_attempt(candidate: Candidate, attempts: Sequence[Document]) -> Candidate:
    """The candidate after so many attempts: another seed, which follows from its own."""
    if not attempts:
        return candidate
    seed = stream(candidate.seed, "retry", len(attempts)).key >> 32  # exact in any JSON reader
    return replace(candidate, seed=seed)


def attempts_with(document: Document) -> Attempts:
    """Those that a document tells of, and its own."""
    own = {"seed": document["seed"], "divergence": document["divergence"]}
    return [*document.get("attempts", []), own]


def reason_of(start: Start | None, result: Retrained) -> Document:
    """Why a candidate that is not finite counts as diverged."""
    if start is None:
        return {"kind": EARLIER}
    last = result.epochs[-1]
    return {"kind": NOT_FINITE, "epoch": last.epoch, "loss": last.loss}


def is_rejected(policy: CandidatesConfig, document: Document) -> bool:
    """Has it diverged, and may it be tried again? The same on all ranks that know the document."""
    if policy.on_divergence != "retry" or not document["diverged"]:
        return False
    kind = document.get("divergence", {}).get("kind", EARLIER)
    return kind != EARLIER and len(document.get("attempts", [])) < policy.retries


def judged(policy: CandidatesConfig, documents: Mapping[int, Document]) -> dict[int, Document]:
    """The documents of a phase; candidates alone far from those retrained alike diverged too."""
    found = dict(documents)
    if policy.far is None:
        return found
    for alike in _retrained_alike(documents):
        losses = {i: documents[i]["epochs"][-1]["loss"] for i in alike}
        for i, median in far(losses, policy.far).items():
            divergence = {"kind": FAR, "loss": losses[i], "median": median}
            found[i] = documents[i] | {"diverged": True, "divergence": divergence}
    return found


def _retrained_alike(documents: Mapping[int, Document]) -> Iterator[list[int]]:
    """Finite candidates with the same retraining: those that differ on purpose may be far apart."""
    groups: dict[str, list[int]] = {}
    for i, document in documents.items():
        if not document["diverged"]:
            groups.setdefault(json.dumps(document["retrain"], sort_keys=True), []).append(i)
    yield from groups.values()


def failures(bench: Workbench, book: Logbook, phase: Phase) -> dict[int, Attempts]:
    """The attempts that earlier starts rejected, by candidate; these make place for others.

    Every rank must call.
    """
    at, policy = bench.at, bench.config.candidates
    found = from_first(lambda: _rejected(policy, book.paths, phase), at.world, at.device)
    return {int(i): attempts for i, attempts in found.items()}


def _rejected(policy: CandidatesConfig, paths: RunPaths, phase: Phase) -> dict[str, Attempts]:
    k, found = phase.index, _told(paths.rejected(phase.index))
    for folder, i in [(paths.candidate(k, c.index), c.index) for c in phase.candidates]:
        if not store.is_complete(folder):
            continue
        document = store.load_document(folder, METRICS)
        if len(found.get(i, [])) > len(document.get("attempts", [])):
            store.discard(folder)  # the start that rejected it was killed
        elif is_rejected(policy, document):  # stored under another policy
            reject(paths, k, [document])
            found[i] = attempts_with(document)
    return {str(i): attempts for i, attempts in found.items()}


def _told(folder: Path) -> dict[int, Attempts]:
    """What is told of each candidate's last rejected attempt and those before it."""
    found: dict[int, Attempts] = {}
    for judgement in folder.glob("candidate_*"):  # not what a crashed save left: names with a dot
        for document in store.load_document(judgement, METRICS):
            i, attempts = document["index"], attempts_with(document)
            found[i] = max(found.get(i, []), attempts, key=len)
    return found


def reject_far(
    bench: Workbench, book: Logbook, phase: Phase, documents: Mapping[int, Document]
) -> dict[int, Attempts]:
    """Reject those that diverged and may be tried again: their attempts up to now.

    Every rank must call, with the documents of all candidates.
    """
    again = [d for d in documents.values() if is_rejected(bench.config.candidates, d)]
    if not again:
        return {}
    at, k = bench.at, phase.index
    from_first(lambda: reject(book.paths, k, again), at.world, at.device)
    return {document["index"]: attempts_with(document) for document in again}


def reject(paths: RunPaths, phase: int, documents: Sequence[Document]) -> None:
    """Tell of attempts, of all of them or none, and remove what is stored. One rank calls."""
    first = documents[0]
    name = f"candidate_{first['index']}_attempt_{len(first.get('attempts', []))}"
    store.save(paths.rejected(phase) / name, {}, {METRICS: list(documents)})
    for document in documents:
        folder = paths.candidate(phase, document["index"])
        if store.is_complete(folder):
            store.discard(folder)


def conclude(
    bench: Workbench, book: Logbook, phase: Phase, documents: Mapping[int, Document]
) -> None:
    """Tell the journal who diverged, and stop where that is the policy: a ValueError."""
    policy = bench.config.candidates.on_divergence
    final = [d for d in documents.values() if d["diverged"] and _is_new(d)]
    for i, document in documents.items():
        place = {"phase": phase.index, "candidate": i}
        for n, attempt in enumerate(document.get("attempts", [])):
            book.event("divergence", **place, attempt=n, action="retried", **_flat(attempt))
        if document in final:
            n, action = len(document.get("attempts", [])), ACTIONS[policy]
            book.event("divergence", **place, attempt=n, action=action, **_flat(document))
    if policy == "stop" and final:
        raise ValueError(_complaint(phase, final))


def _is_new(document: Document) -> bool:
    """Not one that an earlier phase has left out."""
    return bool(document.get("divergence", {}).get("kind", EARLIER) != EARLIER)


def _flat(attempt: Document) -> Document:
    return {"seed": attempt["seed"], **attempt["divergence"]}


def _complaint(phase: Phase, documents: Sequence[Document]) -> str:
    who = ", and ".join(
        f"candidate {d['index']} (seed {d['seed']}) diverged: {reason(d['divergence'])}"
        for d in documents
    )
    return (
        f"phase {phase.index}: {who}; start again with candidates.on_divergence=drop or retry to "
        "go on, or in another run folder with a lower retrain.learning_rate"
    )
