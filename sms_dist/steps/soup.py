"""The soup of a phase: merged, measured and stored; or found in the run folder."""

from __future__ import annotations

from typing import Any

from sms_dist.config_compare import fingerprint
from sms_dist.distributed.collectives import agree, from_first
from sms_dist.paths import MASK, METRICS, WEIGHTS
from sms_dist.pruning.mask import Mask, digest, sparsity
from sms_dist.records import store
from sms_dist.records.logbook import Logbook
from sms_dist.reports.summary import accuracies, phase_summary
from sms_dist.steps.candidates import Candidates
from sms_dist.training.evaluation import measured
from sms_dist.training.merge import Soup, merge
from sms_dist.training.retrain import Start, assert_masked
from sms_dist.training.workbench import State, Workbench

Document = dict[str, Any]


def is_stored(bench: Workbench, book: Logbook, phase: int) -> bool:
    """Was the soup of this phase finished by an earlier start? Every rank must call."""
    folder = book.paths.soup(phase)
    return from_first(lambda: store.is_complete(folder), bench.at.world, bench.at.device)


def stored_soup(bench: Workbench, book: Logbook, start: Start) -> tuple[State, Document]:
    folder = book.paths.soup(start.phase.index)
    if store.load_document(folder, METRICS)["mask_sha256"] != digest(start.mask):
        raise ValueError(f"{folder} has another mask than its dense weights lead to; remove it")
    state = bench.on_device(store.load_tensors(folder, WEIGHTS))
    return state, store.load_document(folder, METRICS)


def soup(
    bench: Workbench, book: Logbook, start: Start, candidates: Candidates
) -> tuple[State, Document]:
    """Merge the candidates that did not diverge. Every rank must call."""
    at, k = bench.at, start.phase.index
    facts = {"configuration": fingerprint(bench.config), "mask": digest(start.mask)}
    agree(facts, at.world, at.device)
    book.at("soup", phase=k, candidate=None)
    merged = _merged(bench, start, candidates)
    state, metrics = measured(bench, merged.state, at.world)
    assert_masked(state, start.mask)
    summary = phase_summary(k, sparsity(start.mask), metrics, list(candidates.documents.values()))
    document = summary | _details(bench, start, merged)
    if book.is_main:
        tensors = {WEIGHTS: state, MASK: start.mask}
        store.save(book.paths.soup(k), tensors, {METRICS: document})
    _record(book, start.mask, state, document, candidates)
    return state, document


def _merged(bench: Workbench, start: Start, candidates: Candidates) -> Soup:
    if not (finite := candidates.finite):
        raise ValueError(
            f"phase {start.phase.index}: every candidate diverged; lower retrain.learning_rate or "
            "set pretrain.clip_norm"
        )
    scores = {i: candidates.documents[i].get("validation_accuracy", 0.0) for i in finite}
    owners = {i: candidates.owners[i] for i in finite}
    own = {i: candidates.states[i] for i in finite if i in candidates.states}
    return merge(bench, start.phase.rule, scores, own, owners, start.mask)


def _details(bench: Workbench, start: Start, merged: Soup) -> Document:
    num_parameters = sum(merged.state[name].numel() for name in bench.parameters)
    removed = sum(int((~kept).sum()) for kept in start.mask.values())
    return {
        "surviving_weights": sum(int(kept.sum()) for kept in start.mask.values()),
        "global_sparsity": removed / num_parameters,  # over all parameters, not the prunable only
        "layer_sparsities": layer_sparsities(start.mask),
        "coefficients": {str(i): value for i, value in merged.coefficients.items()},
        "distances": merged.distances,
        "mask_sha256": digest(start.mask),
    }


def layer_sparsities(mask: Mask) -> dict[str, float]:
    return {name: sparsity({name: kept}) for name, kept in mask.items()}


def _record(
    book: Logbook, mask: Mask, state: State, document: Document, candidates: Candidates
) -> None:
    for found in candidates.documents.values():
        book.event("candidate", phase=document["phase"], **found)
    book.event("soup", **document)
    if book.board:
        book.board.phase(
            document["phase"],
            accuracies(document),
            document["sparsity"],
            document["layer_sparsities"],
            document["distances"],
            {name: state[name][kept] for name, kept in mask.items()},
        )
