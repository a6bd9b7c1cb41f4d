"""Magnitude pruning of a model's weights to an exact count."""

from __future__ import annotations

from sms_dist.pruning.allocation import Allocation, Layer
from sms_dist.pruning.mask import Mask, Tensors, num_surviving, num_weights
from sms_dist.pruning.selection import keep_largest, magnitude_keys


def prune(tensors: Tensors, mask: Mask, num_kept: int, allocate: Allocation) -> Mask:
    """A tighter mask that keeps exactly `num_kept` of the prunable weights.

    A pure function of the weights: ties go to the lower (parameter, index), so every rank with the
    same bits finds the same mask. ValueError when fewer are left, or none would be.
    """
    alive = num_surviving(mask)
    if not 0 < num_kept <= alive:
        raise ValueError(
            f"pruning.goal_sparsity leaves {num_kept} of {num_weights(mask)} weights, of which "
            f"{alive} are there; choose it so that at least one weight stays"
        )
    layers = {
        name: Layer(magnitude_keys(tensors[name], kept), tuple(kept.shape))
        for name, kept in mask.items()
    }
    counts = allocate(layers, num_kept)
    return {
        name: keep_largest(layers[name].keys, counts[name]).view(kept.shape)
        for name, kept in mask.items()
    }
