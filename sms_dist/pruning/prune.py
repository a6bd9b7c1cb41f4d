"""Magnitude pruning of a model's weights to an exact count."""

from __future__ import annotations

from sms_dist.pruning.allocation import Allocation
from sms_dist.pruning.layer import Layer
from sms_dist.pruning.mask import Mask, Tensors, num_weights
from sms_dist.pruning.selection import keep_largest


def prune(tensors: Tensors, mask: Mask, num_kept: int, allocate: Allocation) -> Mask:
    """A tighter mask that keeps exactly `num_kept` of the prunable weights.

    A pure function of the weights: ties go to the lower (parameter, index), so every rank with the
    same bits finds the same mask. ValueError when fewer are left, or none would be.
    """
    layers = {name: Layer(tensors[name], kept) for name, kept in mask.items()}
    alive = sum(layer.num_alive for layer in layers.values())
    if not 0 < num_kept <= alive:
        raise ValueError(
            f"pruning.goal_sparsity leaves {num_kept} of {num_weights(mask)} weights, of which "
            f"{alive} are there; choose it so that at least one weight stays"
        )
    found: Mask = {}
    rankings = allocate(layers, num_kept)
    named = sorted(name for ranking in rankings for name in ranking.names)
    total = sum(ranking.num_kept for ranking in rankings)
    if named != sorted(layers) or total != num_kept:
        raise ValueError(
            f"pruning.allocation keeps {total} weights in {len(named)} layers, and {num_kept} have "
            f"to stay in {len(layers)}; return rankings that name every layer once and add up"
        )
    for ranking in rankings:
        kept = keep_largest([layers[name] for name in ranking.names], ranking.num_kept)
        found |= zip(ranking.names, kept, strict=True)
    return {name: found[name] for name in mask}
