"""What is known of a soup beyond its accuracy: where its weights are, how its candidates differ."""

from __future__ import annotations

from typing import Any

from sms_dist.experiment.candidates import Candidates
from sms_dist.mesh.collectives import from_first
from sms_dist.methods.phases import Phase
from sms_dist.models.speedup import theoretical_speedup
from sms_dist.pruning.mask import Mask, digest, num_surviving, num_weights, sparsity
from sms_dist.run import store
from sms_dist.run.logbook import Logbook
from sms_dist.run.paths import MASK
from sms_dist.run.schema import ModelMetrics
from sms_dist.soups.diversity import mask_overlap
from sms_dist.training.context import Context
from sms_dist.training.ensemble import ensemble
from sms_dist.training.merge import Soup


def details(context: Context, merged: Soup, mask: Mask) -> dict[str, Any]:
    """Return fields of `PhaseMetrics` that every soup has; `mask` is its own."""
    num_parameters = sum(merged.state[name].numel() for name in context.parameters)
    removed = num_weights(mask) - num_surviving(mask)
    return {
        "surviving_weights": num_surviving(mask),
        "global_sparsity": removed / num_parameters,  # over all parameters, not the prunable only
        "layer_sparsities": {name: sparsity({name: kept}) for name, kept in mask.items()},
        "theoretical_speedup": theoretical_speedup(context.macs, mask),
        "coefficients": {str(i): value for i, value in merged.coefficients.items()},
        "distances": merged.distances,
        "pairs": tuple(merged.pairs) or None,
        "mask_sha256": digest(mask),
    }


def comparisons(
    context: Context, log: Logbook, phase: Phase, candidates: Candidates
) -> dict[str, Any]:
    """Return fields of `PhaseMetrics` of several candidates: their ensemble, overlap of masks.

    Every rank must call.
    """
    found: dict[str, Any] = {}
    several = len(candidates.finite) > 1
    if several and context.config.soup.ensemble and context.task.has_probabilities:
        own = {i: held.state for i, held in candidates.own.items()}
        metrics = ensemble(context, own, candidates.finite_owners)
        found["ensemble"] = ModelMetrics(metrics=dict(metrics))
    if several and phase.has_own_masks:
        found["mask_overlap"] = from_first(
            lambda: _overlap(log, phase, candidates), context.mesh.world, context.mesh.device
        )
    return found


def _overlap(log: Logbook, phase: Phase, candidates: Candidates) -> dict[str, float]:
    """How alike the candidates' masks are, and the sparsity that their average has lost."""
    folders = [log.paths.candidate(phase.index, i) for i in candidates.finite]
    masks = [store.load_tensors(folder, MASK) for folder in folders]
    overlap = dict(mask_overlap(masks))
    if phase.sparsity is not None:
        overlap["sparsity_lost"] = phase.sparsity - overlap["union_sparsity"]
    return overlap
