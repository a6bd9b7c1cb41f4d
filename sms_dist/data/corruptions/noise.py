"""Noise as a table: pixel value x random number -> pixel value."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sms_dist.data.corruptions.levels import Draw, level
from sms_dist.data.corruptions.textures import NUM_QUANTILES, quantiles


def gaussian_noise(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Of a fixed standard deviation."""
    small, large = (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)
    return _replaced(images, _gaussian(level(images, severity, small, large)), draw)


def shot_noise(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Light that arrives in so many quanta for a white pixel."""
    small, large = (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)
    return _replaced(images, _shot(level(images, severity, small, large)), draw)


def impulse_noise(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Salt and pepper, of each colour for itself."""
    small, large = (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)
    return _replaced(images, _impulse(level(images, severity, small, large)), draw)


def speckle_noise(images: Tensor, severity: int, draw: Draw) -> Tensor:
    """Of a standard deviation that grows with the pixel."""
    small, large = (0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)
    return _replaced(images, _speckle(level(images, severity, small, large)), draw)


def _replaced(images: Tensor, table: Tensor, draw: Draw) -> Tensor:
    """Each value replaced by its table entry at a random column. Table: uint8, 256 x quantiles."""
    columns = (draw(images[0].numel()) * NUM_QUANTILES).long()
    entries = columns.add_(images.flatten(1).long().mul_(NUM_QUANTILES))
    return table.take(entries).view(images.shape)


def _values() -> Tensor:
    return torch.arange(256, dtype=torch.float32)[:, None]


def _rounded(table: Tensor) -> Tensor:
    return table.round_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=1)  # 16 MB; severities follow one another
def _gaussian(deviation: float) -> Tensor:
    return _rounded(_values() + quantiles() * (255 * deviation))


@lru_cache(maxsize=1)
def _speckle(deviation: float) -> Tensor:
    return _rounded(_values() * (1 + quantiles() * deviation))


@lru_cache(maxsize=1)
def _impulse(amount: float) -> Tensor:
    table = _values().repeat(1, NUM_QUANTILES)
    num_salt = round(NUM_QUANTILES * amount / 2)
    table[:, :num_salt] = 255
    table[:, NUM_QUANTILES - num_salt :] = 0
    return table.to(torch.uint8)


@lru_cache(maxsize=1)
def _shot(quanta: int) -> Tensor:
    """Poisson quantiles: of each count so many columns as its probability is worth."""
    largest = quanta + 10 * round(quanta**0.5) + 10
    counts = torch.arange(largest + 1, dtype=torch.float64)
    means = _values().double() / 255 * quanta
    up_to = torch.special.gammaincc(counts + 1, means)  # the probability of at most `counts`
    last = (up_to * NUM_QUANTILES - 0.5).ceil().long()
    last[:, -1] = NUM_QUANTILES
    num_columns = last.diff(dim=1, prepend=torch.zeros(256, 1, dtype=torch.long))
    pixels = _rounded(counts / quanta * 255)
    return torch.stack([pixels.repeat_interleave(columns) for columns in num_columns])
