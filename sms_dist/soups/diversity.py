"""The distance between the candidates of a phase: of weights, of masks, and on the loss surface."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from sms_dist.soups.rules import Oracle, average

SEGMENT_POINTS = (0.25, 0.5, 0.75)  # where the loss is measured between two candidates
_CHUNK = 1 << 20  # weights looked at together: bounds the extra memory


def gram(candidates: Tensor) -> Tensor:
    """Return the inner products [m, m] of candidates [m, n], float64.

    Those of slices of the candidates add up to those of the whole.
    """
    m = len(candidates)
    products = torch.zeros(m, m, dtype=torch.float64, device=candidates.device)
    for some in torch.split(candidates, _CHUNK, dim=1):
        wide = some.double()
        products += wide @ wide.T
    return products


def distances(gram: Tensor) -> dict[str, float]:
    """Return mean and largest L2 distance and angle (degrees) of pairs of candidates, and the mean
    distance of a candidate to the barycentre.

    `l2_relative` is the mean distance of pairs in units of their (geometric mean) norm. For one
    candidate all are zero.
    """
    m = gram.shape[0]
    norms = gram.diagonal()  # squared
    units = (norms[:, None] * norms[None]).sqrt().clamp_min(1e-300)
    l2 = (norms[:, None] + norms[None] - 2 * gram).clamp_min(0).sqrt()
    angle = (gram / units).clamp(-1, 1).arccos() * (180 / math.pi)
    pairs = torch.triu(torch.ones(m, m, dtype=torch.bool), 1)
    barycentre = (norms - 2 * gram.mean(1) + gram.mean()).clamp_min(0).sqrt()
    return {
        "l2_mean": _mean(l2[pairs]),
        "l2_max": float(l2[pairs].max()) if m > 1 else 0.0,
        "l2_relative": _mean((l2 / units.sqrt())[pairs]),
        "angle_mean": _mean(angle[pairs]),
        "angle_max": float(angle[pairs].max()) if m > 1 else 0.0,
        "barycentre_mean": float(barycentre.mean()),
    }


def mask_overlap(masks: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Return mean and smallest intersection over union of what two masks keep, and the sparsity of
    what any of them keeps, which is the sparsity of the candidates' average."""
    shares = [_shared(first, second) for first, second in combinations(masks, 2)] or [1.0]
    return {
        "iou_mean": sum(shares) / len(shares),
        "iou_min": min(shares),
        "union_sparsity": union_sparsity(masks),
    }


def union_sparsity(masks: Sequence[Mapping[str, Tensor]]) -> float:
    """Return the fraction of the weights that no mask keeps."""
    kept = {name: torch.stack([mask[name] for mask in masks]).any(0) for name in masks[0]}
    num_kept = sum(int(union.sum()) for union in kept.values())
    return 1 - num_kept / sum(union.numel() for union in kept.values())


def loss_barrier(oracle: Oracle, num: int) -> float:
    """Return the largest excess of the validation loss on a segment between two of `num` candidates
    over the line between their own losses; at least 0. Every rank must call."""
    ends = [oracle.loss(average([i], num)) for i in range(num)]

    def between(i: int, j: int, t: float) -> float:
        return oracle.loss([1 - t if k == i else t if k == j else 0.0 for k in range(num)])

    pairs = combinations(range(num), 2)
    segments = ((i, j, {t: between(i, j, t) for t in SEGMENT_POINTS}) for i, j in pairs)
    return max((excess(ends[i], ends[j], losses) for i, j, losses in segments), default=0.0)


def excess(first: float, last: float, losses: Mapping[float, float]) -> float:
    """Return the largest excess of losses, by their place between 0 and 1, over the line between
    the losses of both ends; at least 0."""
    return max(0.0, *(loss - (1 - t) * first - t * last for t, loss in losses.items()))


def _shared(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Return the intersection over union; two masks that keep nothing are equal."""
    both = sum(int((first[name] & second[name]).sum()) for name in first)
    either = sum(int((first[name] | second[name]).sum()) for name in first)
    return both / either if either else 1.0


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0
