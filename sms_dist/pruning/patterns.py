"""A phase's pruning: single weights, whole filters or N of M, by the pattern's name."""

from __future__ import annotations

from sms_dist.lookup import lookup
from sms_dist.pruning.allocation import ALLOCATIONS
from sms_dist.pruning.apportion import num_kept
from sms_dist.pruning.feasible import DEFAULT_ALLOCATION, UNSTRUCTURED, n_of_m
from sms_dist.pruning.filters import keep_filters
from sms_dist.pruning.mask import Mask, Tensors, num_weights
from sms_dist.pruning.n_of_m import keep_of_groups
from sms_dist.pruning.prune import prune


def tighten(
    tensors: Tensors,
    mask: Mask,
    sparsity: float,
    pattern: str = UNSTRUCTURED,
    allocation: str = DEFAULT_ALLOCATION,
) -> Mask:
    """Return the mask of a phase: a pure function of the weights; a pruned weight never returns.

    `sparsity` is of all weights of the mask. Patterns other than unstructured round it in every
    layer, so the mask's own sparsity differs a little from it. ValueError for an unknown name.
    """
    numbers = n_of_m(pattern)
    if pattern == UNSTRUCTURED:
        allocate = lookup(ALLOCATIONS, allocation, "pruning.allocation")
        return prune(tensors, mask, num_kept(num_weights(mask), sparsity), allocate)
    if numbers is None:
        return keep_filters(tensors, mask, sparsity)
    return keep_of_groups(tensors, mask, sparsity, numbers[1])
