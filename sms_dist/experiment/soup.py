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
from sms_dist.run.journal import CandidateEvent, SoupEvent, WarningEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import LATENT, MASK, METRICS, WEIGHTS
from sms_dist.run.schema import ModelMetrics, PhaseMetrics
from sms_dist.soups.alarm import warnings
from sms_dist.soups.packing import Packing
from sms_dist.training.context import Context, State
from sms_dist.training.evaluation import measured
from sms_dist.training.merge import Soup, merge
from sms_dist.training.mixer import packing_of
from sms_dist.training.retrain import Start, assert_masked
from sms_dist.training.settle import keeps_latent, settled, union


def is_stored(context: Context, log: Logbook, phase: Phase) -> bool:
    """Was the soup of this phase finished by an earlier start? Every rank must call."""
    folder = log.paths.soup(phase.index)
    return from_first(lambda: store.is_complete(folder), context.mesh.world, context.mesh.device)


def stored_soup(
    context: Context, log: Logbook, phase: Phase, mask: Mask
) -> tuple[Standing, PhaseMetrics]:
    """The soup on disk. `mask` is that of the candidates' start; ValueError where it differs."""
    folder = log.paths.soup(phase.index)
    record = store.load_record(folder, METRICS, PhaseMetrics)
    read = context.on_device(store.load_tensors(folder, MASK))
    found = {name: read[name] for name in context.prunable}
    if digest(found) != record.mask_sha256 or (
        not phase.has_own_masks and digest(found) != digest(mask)
    ):
        raise ValueError(f"{folder} has another mask than its dense weights lead to; remove it")
    file = LATENT if keeps_latent(phase) else WEIGHTS
    return Standing(context.on_device(store.load_tensors(folder, file)), found), record


def soup(
    context: Context,
    log: Logbook,
    start: Start,
    candidates: Candidates,
    dense: DenseModel,
    earlier: Sequence[PhaseMetrics],
) -> tuple[Standing, PhaseMetrics]:
    """Merge the candidates that did not diverge; `earlier` are the records of the phases before.

    Every rank must call.
    """
    mesh, phase, k = context.mesh, start.phase, start.phase.index
    log.set_stage("soup", phase=k, candidate=None)
    context.mesh.control.set_place(f"phase {k}, soup")
    _check_any_finite(phase, candidates)
    facts = {"configuration": fingerprint(context.config), "mask": digest(start.mask)}
    agree(facts, mesh.world, mesh.device)
    everything = start.mask
    if phase.has_own_masks:
        everything = union(context, phase, [held.mask for held in candidates.own.values()])
    packing = start.packing or packing_of(context, everything)
    merged = _merged(context, phase, candidates, packing, everything, dense)
    weights, mask = settled(context, phase, merged.state, everything)
    state, metrics = measured(context, weights, mesh.world, log.set_stage)
    assert_masked(state, mask)
    score = context.task.score
    scores = candidates.test_scores(score).values()
    record = PhaseMetrics(
        phase=k,
        sparsity=sparsity(mask),
        score=score,
        soup=ModelMetrics(metrics=dict(metrics)),
        candidates=tuple(each.brief() for each in candidates.records.values()),
        best_candidate=max(scores),
        mean_candidate=sum(scores) / len(scores),
        **details(context, merged, mask),
        **comparisons(context, log, phase, candidates),
    )
    record = record.model_copy(update={"warnings": warnings_of(record, earlier)})
    standing = Standing(state, mask)
    tensors: dict[str, State | Mask] = {WEIGHTS: state, MASK: mask}
    if keeps_latent(phase):
        standing = Standing(state | merged.state, mask)
        tensors[LATENT] = standing.state
    if log.is_main:
        store.save(log.paths.soup(k), tensors, {METRICS: record.as_json()})
    _write(log, mask, state, record, candidates)
    tell_damaged(context, log, f"phase {k}")
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
    context: Context,
    phase: Phase,
    candidates: Candidates,
    packing: Packing,
    everything: Mask,
    dense: DenseModel,
) -> Soup:
    records = candidates.records
    return merge(
        context,
        phase.rule,
        scores={i: context.comparable(records[i].metrics) for i in candidates.finite},
        own={i: held.trained for i, held in candidates.own.items()},
        owners=candidates.finite_owners,
        packing=packing,
        view=lambda state: settled(context, phase, state, everything)[0],
        teacher=dense.state,
        test_scores=candidates.test_scores(context.task.score),
    )


def _write(
    log: Logbook, mask: Mask, state: State, record: PhaseMetrics, candidates: Candidates
) -> None:
    """Write the journal's events and the curves of a phase."""
    for candidate in candidates.records.values():
        log.event(CandidateEvent(phase=record.phase, metrics=candidate))
    log.event(SoupEvent(metrics=record))
    for warning in record.warnings or ():
        log.event(WarningEvent(phase=record.phase, message=warning))
    if log.board:
        scores = {
            "soup": record.soup_score,
            "best_candidate": record.best_candidate,
            "mean_candidate": record.mean_candidate,
        }
        log.board.phase(
            record.phase,
            scores,
            record.sparsity,
            record.layer_sparsities or {},
            record.distances or {},
            {name: state[name][kept] for name, kept in mask.items()},
        )
