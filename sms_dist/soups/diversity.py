"""How far the candidates of a phase are from each other: their weights, or their masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

_CHUNK = 1 << 20  # weights looked at together: bounds the extra memory


def gram(candidates: Tensor) -> Tensor:
    """Inner products [m, m] of candidates [m, n], float64; those of slices add up to the whole."""
    m = len(candidates)
    products = torch.zeros(m, m, dtype=torch.float64, device=candidates.device)
    for some in torch.split(candidates, _CHUNK, dim=1):
        wide = some.double()
        products += wide @ wide.T
    return products


def distances(gram: Tensor) -> dict[str, float]:
    """Pairwise L2 distance and angle (degrees): mean and largest; distance to the barycentre: mean.

    l2_relative is the mean distance of pairs in units of their (geometric mean) norm. Of a single
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
    """How alike masks are: the weights that two of them keep over those that either keeps, mean and
    smallest; and the sparsity of what any of them keeps, which is that of their average."""
    shares = [_shared(first, second) for first, second in combinations(masks, 2)] or [1.0]
    return {
        "iou_mean": sum(shares) / len(shares),
        "iou_min": min(shares),
        "union_sparsity": union_sparsity(masks),
    }


def union_sparsity(masks: Sequence[Mapping[str, Tensor]]) -> float:
    """The fraction of the weights that no mask keeps."""
    kept = {name: torch.stack([mask[name] for mask in masks]).any(0) for name in masks[0]}
    num_kept = sum(int(union.sum()) for union in kept.values())
    return 1 - num_kept / sum(union.numel() for union in kept.values())


def _shared(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Intersection over union; two masks that keep nothing are equal."""
    both = sum(int((first[name] & second[name]).sum()) for name in first)
    either = sum(int((first[name] | second[name]).sum()) for name in first)
    return both / either if either else 1.0


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0
