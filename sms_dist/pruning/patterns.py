"""A phase's pruning: single weights, whole filters or N of M, by the pattern's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from sms_dist.base.lookup import lookup_open
from sms_dist.pruning.allocation import ALLOCATIONS
from sms_dist.pruning.apportion import num_kept
from sms_dist.pruning.feasible import DEFAULT_ALLOCATION, DEFAULT_SCORE, UNSTRUCTURED, n_of_m
from sms_dist.pruning.filters import keep_filters
from sms_dist.pruning.mask import Mask, Tensors, num_weights
from sms_dist.pruning.n_of_m import keep_of_groups
from sms_dist.pruning.prune import prune

# (the prunable weights) -> numbers of the same shapes, none negative: what is larger stays
Score = Callable[[Tensors], Tensors]


def magnitude(weights: Tensors) -> Tensors:
    """Return the weights themselves: rankings go by their absolute values."""
    return weights


SCORES: Mapping[str, Score] = {DEFAULT_SCORE: magnitude}


def tighten(
    tensors: Tensors,
    mask: Mask,
    sparsity: float,
    pattern: str = UNSTRUCTURED,
    allocation: str = DEFAULT_ALLOCATION,
    score: str = DEFAULT_SCORE,
) -> Mask:
    """Return the mask of a phase: a pure function of the weights; a pruned weight never returns.

    What stays is what `score` makes largest. `sparsity` is of all weights of the mask. Patterns
    other than unstructured round it in every layer, so the mask's own sparsity differs a little
    from it. ValueError for an unknown name.
    """
    numbers = n_of_m(pattern)
    tensors = _scored(tensors, mask, score)
    if pattern == UNSTRUCTURED:
        allocate = lookup_open(ALLOCATIONS, allocation, "pruning.allocation")
        return prune(tensors, mask, num_kept(num_weights(mask), sparsity), allocate)
    if numbers is None:
        return keep_filters(tensors, mask, sparsity)
    return keep_of_groups(tensors, mask, sparsity, numbers[1])


def _scored(tensors: Tensors, mask: Mask, name: str) -> Tensors:
    score = lookup_open(SCORES, name, "pruning.score")
    if score is magnitude:
        return tensors
    with torch.no_grad():
        scores = score({n: tensors[n] for n in mask})
    for n, kept in mask.items():
        if n not in scores or scores[n].shape != kept.shape:
            shape = tuple(scores[n].shape) if n in scores else "nothing"
            raise ValueError(
                f"pruning.score={name} returned {shape} for {n}, which is {tuple(kept.shape)}; "
                "return a tensor of the same shape for every weight"
            )
        if not bool(((scores[n] >= 0) & torch.isfinite(scores[n])).all()):
            raise ValueError(
                f"pruning.score={name} returned numbers for {n} that are negative or not finite; "
                "the larger a number, the sooner its weight stays"
            )
    return scores
