"""The soup of a phase: the candidates of all groups are merged, measured and stored; a soup that an
earlier start stored is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch

from sms_dist.config.compare import fingerprint
from sms_dist.experiment.candidates import Candidates
from sms_dist.experiment.dense import DenseModel, log_damaged
from sms_dist.experiment.start import PhaseState, held_with, pruned
from sms_dist.mesh.collectives import agree, any_, from_first
from sms_dist.methods.phases import Phase
from sms_dist.models.speedup import theoretical_speedup
from sms_dist.pruning.mask import Mask, apply_, full_mask
from sms_dist.run import store
from sms_dist.run.journal import CandidateEvent, SoupEvent, WarningEvent
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import LATENT, MASK, METRICS, WEIGHTS
from sms_dist.run.schema import ModelMetrics, PairMetrics, PhaseMetrics
from sms_dist.soups.alarm import warnings
from sms_dist.soups.diversity import loss_barrier, mask_overlap
from sms_dist.soups.merge import Mixer, Soup, merge
from sms_dist.soups.rules import Descent, average, rule
from sms_dist.soups.states import bare_state, some
from sms_dist.training.context import Context, State
from sms_dist.training.evaluation import ensemble, measured
from sms_dist.training.oracle import SoupOracle
from sms_dist.training.retrain import Start, assert_masked


def is_stored(context: Context, log: Logbook, phase: Phase) -> bool:
    """Did an earlier start finish the soup of this phase? Every rank must call."""
    folder = log.paths.soup(phase.index)
    return from_first(lambda: store.is_complete(folder), context.mesh.world, context.mesh.device)


def stored_soup(
    context: Context, log: Logbook, phase: Phase, mask: Mask
) -> tuple[PhaseState, PhaseMetrics]:
    """Read the soup on disk; ValueError if its mask differs from that of the candidates' start."""
    folder = log.paths.soup(phase.index)
    record = store.load_record(folder, METRICS, PhaseMetrics)
    tensors = context.on_device(store.load_tensors(folder, MASK))
    stored = Mask({name: tensors[name] for name in context.prunable})
    if stored.digest != record.mask_sha256 or (not phase.has_own_masks and stored != mask):
        raise ValueError(f"{folder} has another mask than its dense weights lead to; remove it")
    file = LATENT if phase.keeps_latent else WEIGHTS
    return PhaseState(context.on_device(store.load_tensors(folder, file)), stored), record


def soup(
    context: Context,
    log: Logbook,
    start: Start,
    candidates: Candidates,
    dense: DenseModel,
    earlier: Sequence[PhaseMetrics],
) -> tuple[PhaseState, PhaseMetrics]:
    """Merge the candidates that did not diverge; measure and store their soup.

    `earlier` are the records of the phases before. Every rank of the world must call.
    """
    mesh, phase = context.mesh, start.phase
    log.set_stage("soup", phase=phase.index, candidate=None)
    mesh.control.set_place(f"phase {phase.index}, soup")
    if not candidates.finite:
        raise ValueError(
            f"phase {phase.index}: every candidate diverged; lower retrain.learning_rate or "
            "set pretrain.clip_norm"
        )
    facts = {"configuration": fingerprint(context.config), "mask": start.mask.digest}
    agree(facts, mesh.world, mesh.device)

    union = _union(context, phase, candidates) if phase.has_own_masks else start.mask
    merged, pairs = _merged(context, log, start, candidates, union, dense)
    weights, mask = _pruned_again(context, phase, merged.state, union)
    state, metrics = measured(context, weights, mesh.world, log.set_stage)
    assert_masked(state, mask)

    score = context.task.score
    scores = candidates.test_scores(score).values()
    record = PhaseMetrics(
        phase=phase.index,
        sparsity=mask.sparsity,
        score=score,
        soup=ModelMetrics(metrics=dict(metrics)),
        candidates=tuple(each.brief() for each in candidates.records.values()),
        best_candidate=max(scores),
        mean_candidate=sum(scores) / len(scores),
        pairs=tuple(pairs) or None,
        **_facts(context, merged, mask),
        **_comparisons(context, log, phase, candidates),
    )
    record = record.model_copy(update={"warnings": warnings_of(record, earlier)})
    tensors: dict[str, State | Mask] = {WEIGHTS: state, MASK: mask}
    last = PhaseState(state, mask)
    if phase.keeps_latent:
        latent = {name: merged.state[name] for name in context.parameters}
        last = PhaseState(state | latent, mask)
        tensors[LATENT] = last.state
    if log.is_main:
        store.save(log.paths.soup(phase.index), tensors, {METRICS: record.as_json()})
    _write(log, state, mask, record, candidates)
    log_damaged(context, log, f"phase {phase.index}")
    return last, record


def _merged(
    context: Context,
    log: Logbook,
    start: Start,
    candidates: Candidates,
    union: Mask,
    dense: DenseModel,
) -> tuple[Soup, list[PairMetrics]]:
    """Return the soup of the candidates, and the soups of two of them if they are asked for."""
    phase, config, indices = start.phase, context.config.soup, candidates.finite
    own = {i: candidate.trained for i, candidate in candidates.own.items()}
    vector = start.vector or context.surviving_vector(union)
    mixer = Mixer(context.mesh, vector, own, candidates.finite_owners, context.buffers)
    if mixer.differing:
        names = some(mixer.differing)
        message = f"candidates differ in {names}; the soup has those of candidate {indices[0]}"
        log.event(WarningEvent(phase=phase.index, message=message))
    chosen = rule(phase.rule)

    def view(state: State) -> State:
        return _pruned_again(context, phase, state, union)[0]

    teacher = dense.state if chosen.needs_teacher and len(indices) > 1 else None
    oracle = SoupOracle(context, mixer, view, teacher)
    scores = {i: context.comparable(candidates.records[i].metrics) for i in indices}
    merged = merge(mixer, chosen, scores, oracle, Descent(config.steps, config.learning_rate))
    if config.loss_barrier and len(indices) > 1:
        merged.distances["loss_barrier_max"] = loss_barrier(oracle, len(indices))
    test_scores = candidates.test_scores(context.task.score)
    return merged, pair_soups(oracle, indices, test_scores) if config.pairs else []


def pair_soups(
    oracle: SoupOracle, indices: Sequence[int], test_scores: Mapping[int, float]
) -> list[PairMetrics]:
    """Return the metrics of the mean of every two candidates, and the better one's test score.

    `indices` name the oracle's candidates, in its order. Every rank must call.
    """
    pairs = []
    for i, j in combinations(range(len(indices)), 2):
        pair = (indices[i], indices[j])
        metrics = oracle.metrics(average([i, j], len(indices)))
        better = max(test_scores[index] for index in pair)
        pairs.append(PairMetrics(candidates=pair, metrics=dict(metrics), better_candidate=better))
    return pairs


def _union(context: Context, phase: Phase, candidates: Candidates) -> Mask:
    """Return the mask of what any candidate of any group keeps. Every rank must call."""
    own = [candidate.mask for candidate in candidates.own.values()]
    facts = {f"mask {i} of my group": mask.digest for i, mask in enumerate(own)}
    agree(facts, context.mesh.data, context.mesh.device)
    state = bare_state(context.new_model())
    if phase.keeps_latent:
        return full_mask(state, context.prunable)
    nothing = {name: torch.zeros_like(state[name], dtype=torch.bool) for name in context.prunable}
    of_my_group = {
        name: torch.stack([mask[name] for mask in own]).any(0) if own else none
        for name, none in nothing.items()
    }
    return Mask(any_(of_my_group, context.mesh.candidate))


def _pruned_again(context: Context, phase: Phase, state: State, union: Mask) -> tuple[State, Mask]:
    """Return the average and its mask; pruned again if candidates had masks of their own."""
    if not phase.has_own_masks or phase.sparsity is None:
        return state, union
    mask = pruned(context, phase, PhaseState(state, union))
    weights = {name: tensor.clone() for name, tensor in state.items()}
    apply_(weights, held_with(context, mask))
    return weights, mask


def _facts(context: Context, merged: Soup, mask: Mask) -> dict[str, Any]:
    """Return the fields of `PhaseMetrics` that follow from the soup and its mask."""
    num_parameters = sum(merged.state[name].numel() for name in context.parameters)
    removed = mask.num_weights - mask.num_kept
    return {
        "surviving_weights": mask.num_kept,
        "global_sparsity": removed / num_parameters,  # over all parameters, not the prunable only
        "layer_sparsities": {name: Mask({name: kept}).sparsity for name, kept in mask.items()},
        "dense_weights": {each.name: each.dense for each in context.weights if each.dense},
        "theoretical_speedup": theoretical_speedup(context.macs, mask),
        "coefficients": {str(i): value for i, value in merged.coefficients.items()},
        "distances": merged.distances,
        "mask_sha256": mask.digest,
    }


def _comparisons(
    context: Context, log: Logbook, phase: Phase, candidates: Candidates
) -> dict[str, Any]:
    """Return the fields of `PhaseMetrics` about several candidates: their ensemble, the overlap of
    their masks. Every rank must call."""
    fields: dict[str, Any] = {}
    several = len(candidates.finite) > 1
    if several and context.config.soup.ensemble and context.task.has_probabilities:
        own = {i: candidate.state for i, candidate in candidates.own.items()}
        metrics = ensemble(context, own, candidates.finite_owners)
        fields["ensemble"] = ModelMetrics(metrics=dict(metrics))
    if several and phase.has_own_masks:
        fields["mask_overlap"] = from_first(
            lambda: _overlap(log, phase, candidates), context.mesh.world, context.mesh.device
        )
    return fields


def _overlap(log: Logbook, phase: Phase, candidates: Candidates) -> dict[str, float]:
    """Return how alike the candidates' masks are, and the sparsity that their average has lost."""
    folders = [log.paths.candidate(phase.index, i) for i in candidates.finite]
    overlap = dict(mask_overlap([store.load_tensors(folder, MASK) for folder in folders]))
    if phase.sparsity is not None:
        overlap["sparsity_lost"] = phase.sparsity - overlap["union_sparsity"]
    return overlap


def warnings_of(record: PhaseMetrics, earlier: Sequence[PhaseMetrics]) -> tuple[str, ...]:
    """Return the signs that the candidates of a phase have left their common basin."""
    finite = [each for each in record.candidates if not each.diverged]
    metrics, score = record.soup.metrics, record.score
    split = "validation" if f"validation_{score}" in metrics else "test"
    name = f"{split}_{score}"
    losses = [each.metrics.get("validation_loss") or 0.0 for each in finite]
    signs = warnings(
        f"{split} {score}",
        metrics[name] or 0.0,
        [each.metrics[name] or 0.0 for each in finite],
        record.distances or {},
        [before.distances["l2_mean"] for before in earlier if before.distances],
        sum(losses) / max(len(losses), 1),
    )
    return tuple(f"phase {record.phase}: {sign}" for sign in signs)


def _write(
    log: Logbook, state: State, mask: Mask, record: PhaseMetrics, candidates: Candidates
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
