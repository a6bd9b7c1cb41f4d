"""How far the candidates of a phase are from each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gram(candidates: Tensor) -> Tensor:
    """Inner products [m, m] of candidates [m, n], float64; those of slices add up to the whole."""
    wide = candidates.double()
    return wide @ wide.T


def distances(gram: Tensor) -> dict[str, float]:
    """Pairwise L2 distance and angle (degrees): mean and largest; distance to the barycentre: mean.

    Of a single candidate all are zero.
    """
    m = gram.shape[0]
    norms = gram.diagonal()
    l2 = (norms[:, None] + norms[None] - 2 * gram).clamp_min(0).sqrt()
    cosine = (gram / (norms[:, None] * norms[None]).sqrt().clamp_min(1e-300)).clamp(-1, 1)
    angle = cosine.arccos() * (180 / math.pi)
    pairs = torch.triu(torch.ones(m, m, dtype=torch.bool), 1)
    barycentre = (norms - 2 * gram.mean(1) + gram.mean()).clamp_min(0).sqrt()
    return {
        "l2_mean": _mean(l2[pairs]),
        "l2_max": float(l2[pairs].max()) if m > 1 else 0.0,
        "angle_mean": _mean(angle[pairs]),
        "angle_max": float(angle[pairs].max()) if m > 1 else 0.0,
        "barycentre_mean": float(barycentre.mean()),
    }


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else 0.0
