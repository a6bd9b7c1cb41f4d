"""The soup of a phase: merged, measured and stored; or found in the run folder."""

from __future__ import annotations

from collections.abc import Sequence

from sms_dist.config.compare import fingerprint
from sms_dist.experiment.candidates import Candidates
from sms_dist.experiment.damaged import tell_damaged
from sms_dist.experiment.dense import DenseModel
from sms_dist.experiment.details import comparisons, details
from sms_dist.experiment.start import Standing
from sms_dist.mesh.collectives import agree, from_first
from sms_dist.methods.phases import Phase
from sms_dist.pruning.mask import Mask, digest, sparsity
from sms_dist.run import store
from sms_dist.run.events import CandidateEvent, SoupEvent, WarningEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import LATENT, MASK, METRICS, WEIGHTS
from sms_dist.run.schema import ModelMetrics, PhaseMetrics
from sms_dist.soups.alarm import warnings
from sms_dist.soups.packing import Packing
from sms_dist.training.evaluation import measured
from sms_dist.training.merge import Soup, merge
from sms_dist.training.mixer import packing_of
from sms_dist.training.retrain import Start, assert_masked
from sms_dist.training.settle import keeps_latent, settled, union
from sms_dist.training.workbench import State, Workbench


def is_stored(bench: Workbench, book: Logbook, phase: Phase) -> bool:
    """Was the soup of this phase finished by an earlier start? Every rank must call."""
    folder = book.paths.soup(phase.index)
    return from_first(lambda: store.is_complete(folder), bench.at.world, bench.at.device)


def stored_soup(
    bench: Workbench, book: Logbook, phase: Phase, mask: Mask
) -> tuple[Standing, PhaseMetrics]:
    """The soup on disk. `mask` is that of the candidates' start; ValueError where it differs."""
    folder = book.paths.soup(phase.index)
    record = store.load_record(folder, METRICS, PhaseMetrics)
    read = bench.on_device(store.load_tensors(folder, MASK))
    found = {name: read[name] for name in bench.prunable}
    if digest(found) != record.mask_sha256 or (
        not phase.has_own_masks and digest(found) != digest(mask)
    ):
        raise ValueError(f"{folder} has another mask than its dense weights lead to; remove it")
    file = LATENT if keeps_latent(phase) else WEIGHTS
    return Standing(bench.on_device(store.load_tensors(folder, file)), found), record


def soup(
    bench: Workbench,
    book: Logbook,
    start: Start,
    candidates: Candidates,
    dense: DenseModel,
    earlier: Sequence[PhaseMetrics],
) -> tuple[Standing, PhaseMetrics]:
    """Merge the candidates that did not diverge; `earlier` are the records of the phases before.

    Every rank must call.
    """
    at, phase, k = bench.at, start.phase, start.phase.index
    book.at("soup", phase=k, candidate=None)
    bench.at.control.at(f"phase {k}, soup")
    _check_any_finite(phase, candidates)
    facts = {"configuration": fingerprint(bench.config), "mask": digest(start.mask)}
    agree(facts, at.world, at.device)
    everything = start.mask
    if phase.has_own_masks:
        everything = union(bench, phase, [held.mask for held in candidates.own.values()])
    packing = start.packing or packing_of(bench, everything)
    merged = _merged(bench, phase, candidates, packing, everything, dense)
    weights, mask = settled(bench, phase, merged.state, everything)
    state, metrics = measured(bench, weights, at.world, book.at)
    assert_masked(state, mask)
    score = bench.task.score
    scores = candidates.test_scores(score).values()
    record = PhaseMetrics(
        phase=k,
        sparsity=sparsity(mask),
        score=score,
        soup=ModelMetrics(metrics=dict(metrics)),
        candidates=tuple(each.brief() for each in candidates.records.values()),
        best_candidate=max(scores),
        mean_candidate=sum(scores) / len(scores),
        **details(bench, merged, mask),
        **comparisons(bench, book, phase, candidates),
    )
    record = record.model_copy(update={"warnings": warnings_of(record, earlier)})
    standing = Standing(state, mask)
    tensors: dict[str, State | Mask] = {WEIGHTS: state, MASK: mask}
    if keeps_latent(phase):
        standing = Standing(state | merged.state, mask)
        tensors[LATENT] = standing.state
    if book.is_main:
        store.save(book.paths.soup(k), tensors, {METRICS: record.as_json()})
    _write(book, mask, state, record, candidates)
    tell_damaged(bench, book, f"phase {k}")
    return standing, record


def warnings_of(record: PhaseMetrics, earlier: Sequence[PhaseMetrics]) -> tuple[str, ...]:
    """Return the signs that the candidates of a phase have left their common basin."""
    finite = [each for each in record.candidates if not each.diverged]
    soup, score = record.soup.metrics, record.score
    split = "validation" if f"validation_{score}" in soup else "test"
    name = f"{split}_{score}"
    losses = [each.metrics.get("validation_loss") or 0.0 for each in finite]
    signs = warnings(
        f"{split} {score}",
        soup[name] or 0.0,
        [each.metrics[name] or 0.0 for each in finite],
        record.distances or {},
        [before.distances["l2_mean"] for before in earlier if before.distances],
        sum(losses) / max(len(losses), 1),
    )
    return tuple(f"phase {record.phase}: {sign}" for sign in signs)


def _check_any_finite(phase: Phase, candidates: Candidates) -> None:
    if not candidates.finite:
        raise ValueError(
            f"phase {phase.index}: every candidate diverged; lower retrain.learning_rate or "
            "set pretrain.clip_norm"
        )


def _merged(
    bench: Workbench,
    phase: Phase,
    candidates: Candidates,
    packing: Packing,
    everything: Mask,
    dense: DenseModel,
) -> Soup:
    records = candidates.records
    return merge(
        bench,
        phase.rule,
        scores={i: bench.comparable(records[i].metrics) for i in candidates.finite},
        own={i: held.trained for i, held in candidates.own.items()},
        owners=candidates.finite_owners,
        packing=packing,
        view=lambda state: settled(bench, phase, state, everything)[0],
        teacher=dense.state,
        test_scores=candidates.test_scores(bench.task.score),
    )


def _write(
    book: Logbook, mask: Mask, state: State, record: PhaseMetrics, candidates: Candidates
) -> None:
    """Write the journal's events and the curves of a phase."""
    for candidate in candidates.records.values():
        book.event(CandidateEvent(phase=record.phase, metrics=candidate))
    book.event(SoupEvent(metrics=record))
    for warning in record.warnings or ():
        book.event(WarningEvent(phase=record.phase, message=warning))
    if book.board:
        scores = {
            "soup": record.soup_score,
            "best_candidate": record.best_candidate,
            "mean_candidate": record.mean_candidate,
        }
        book.board.phase(
            record.phase,
            scores,
            record.sparsity,
            record.layer_sparsities or {},
            record.distances or {},
            {name: state[name][kept] for name, kept in mask.items()},
        )
