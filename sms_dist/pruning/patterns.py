"""The mask of a phase: single weights, whole filters or N of M, by the pattern's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import torch
from torch import Tensor

from sms_dist.base.lookup import guarded, lookup_open
from sms_dist.base.plain import shown
from sms_dist.pruning.allocation import ALLOCATIONS, Allocation, Ranking, num_kept
from sms_dist.pruning.feasible import DEFAULT_ALLOCATION, DEFAULT_SCORE, UNSTRUCTURED, n_of_m
from sms_dist.pruning.filters import keep_filters
from sms_dist.pruning.mask import Mask, Tensors
from sms_dist.pruning.selection import keep_largest
from sms_dist.pruning.threshold import Layer, magnitude_keys

T = TypeVar("T")
# (the prunable weights) -> numbers of the same shapes, none negative: the largest stay
Score = Callable[[Tensors], Tensors]
_INPUTS = 1  # the dim of a linear layer's inputs and of a convolution's input channels


def magnitude(weights: Tensors) -> Tensors:
    """Return the weights themselves: rankings go by their absolute values."""
    return weights


SCORES: Mapping[str, Score] = {DEFAULT_SCORE: magnitude}


def tighten(
    tensors: Tensors,
    mask: Tensors,
    sparsity: float,
    pattern: str = UNSTRUCTURED,
    allocation: str | Allocation = DEFAULT_ALLOCATION,
    score: str | Score = DEFAULT_SCORE,
) -> Mask:
    """Return the mask of a phase: a pure function of the weights; a pruned weight never returns.

    The weights stay that `score` makes largest. `sparsity` is of all weights of the mask. Patterns
    other than unstructured round it in every layer, so the mask's own sparsity differs a little
    from it. Functions are taken in place of names. ValueError for an unknown name.
    """
    numbers = n_of_m(pattern)
    mask, tensors = Mask(mask), _scored(tensors, mask, score)
    if pattern == UNSTRUCTURED:
        allocate = _function(ALLOCATIONS, allocation, "pruning.allocation")
        return keep_allocated(tensors, mask, num_kept(mask.num_weights, sparsity), allocate)
    if numbers is None:
        return keep_filters(tensors, mask, sparsity)
    return keep_of_groups(tensors, mask, sparsity, numbers[1])


def keep_allocated(tensors: Tensors, mask: Tensors, num_kept: int, allocate: Allocation) -> Mask:
    """Return a tighter mask that keeps exactly `num_kept` of the prunable weights.

    Ties go to the lower (parameter, index), so every rank with the same bits makes the same mask.
    ValueError when fewer are left, or none would be, or the allocation does not add up.
    """
    mask = Mask(mask)
    layers = {name: Layer(tensors[name], kept) for name, kept in mask.items()}
    num_alive = sum(layer.num_alive for layer in layers.values())
    if not 0 < num_kept <= num_alive:
        raise ValueError(
            f"pruning.goal_sparsity leaves {num_kept} of {mask.num_weights} weights, of which "
            f"{num_alive} are there; choose it so that at least one weight stays"
        )
    rankings = allocate(layers, num_kept)
    if not isinstance(rankings, Sequence) or not all(isinstance(r, Ranking) for r in rankings):
        raise ValueError(f"pruning.allocation returned {shown(rankings)}; return a list of Ranking")
    names = sorted(name for ranking in rankings for name in ranking.names)
    total = sum(ranking.num_kept for ranking in rankings)
    if names != sorted(layers) or total != num_kept:
        raise ValueError(
            f"pruning.allocation keeps {total} weights in {len(names)} layers, and {num_kept} have "
            f"to stay in {len(layers)}; return rankings that name every layer once and add up"
        )
    tighter: dict[str, Tensor] = {}
    for ranking in rankings:
        kept = keep_largest([layers[name] for name in ranking.names], ranking.num_kept)
        tighter |= zip(ranking.names, kept, strict=True)
    return Mask({name: tighter[name] for name in mask})


def keep_of_groups(tensors: Tensors, mask: Tensors, sparsity: float, size: int) -> Mask:
    """Return a tighter N:M mask: every `size` consecutive inputs keep the same number at most.

    Of each group round(sparsity * size) are gone at least; ties go to the lower index. The number
    of inputs of every layer is a multiple of `size`.
    """
    kept = num_kept(size, sparsity)
    groups = {
        name: _largest_of_groups(tensors[name], alive, kept, size) for name, alive in mask.items()
    }
    return Mask(groups)


def _largest_of_groups(weight: Tensor, alive: Tensor, num: int, size: int) -> Tensor:
    keys = magnitude_keys(weight, alive).view(alive.shape).movedim(_INPUTS, -1)
    groups = keys.reshape(*keys.shape[:-1], -1, size)
    order = groups.sort(dim=-1, descending=True, stable=True).indices
    stays = torch.zeros_like(order, dtype=torch.bool)
    stays.scatter_(-1, order[..., :num], True)
    return alive & stays.flatten(-2).movedim(-1, _INPUTS)


def _function(table: Mapping[str, T], given: str | T, key: str) -> T:
    if callable(given) and given not in table.values():
        return cast(T, guarded(given, _name(given), key))
    return given if callable(given) else lookup_open(table, cast(str, given), key)


def _scored(tensors: Tensors, mask: Tensors, given: str | Score) -> Tensors:
    """Return the numbers that a score gives the weights; ValueError where they cannot be ranked."""
    score = _function(SCORES, given, "pruning.score")
    if score is magnitude:
        return tensors
    with torch.no_grad():
        # copies: a score that works in place would change the model
        scores = score({n: tensors[n].clone() for n in mask})
    for n, kept in mask.items():
        own = scores.get(n) if isinstance(scores, Mapping) else None
        if not isinstance(own, Tensor) or own.shape != kept.shape:
            size = tuple(own.shape) if isinstance(own, Tensor) else "no tensor"
            raise ValueError(
                f"pruning.score={_name(given)} returned {size} for {n}, which is "
                f"{tuple(kept.shape)}; return a tensor of the same shape for every weight"
            )
        if not bool(((scores[n] >= 0) & torch.isfinite(scores[n])).all()):
            raise ValueError(
                f"pruning.score={_name(given)} returned numbers for {n} that are negative or not "
                "finite; the larger a number, the sooner its weight stays"
            )
    return scores


def _name(given: object) -> str:
    return str(getattr(given, "__name__", given))
