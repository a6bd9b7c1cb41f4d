"""The exact k-th largest magnitude, by histograms over bit patterns instead of sorting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sms_dist.pruning.mask import count

CHUNK = 1 << 20  # weights whose keys are made at a time: bounds the extra memory
PRUNED = -1  # the key of a pruned weight
# (lowest bit, number of bits) that a pass over the keys determines; the sign bit is 0
_PASSES = ((16, 15), (8, 8), (0, 8))
_SIGN = 31


def magnitude_keys(weights: Tensor, alive: Tensor | None = None) -> Tensor:
    """Return int32 keys in the order of |weight|, flat; PRUNED where not alive.

    Non-negative floats have the order of their bit patterns read as integers.
    """
    keys = weights.detach().float().view(torch.int32).bitwise_and(0x7FFFFFFF).flatten()
    return keys if alive is None else keys.masked_fill_(~alive.flatten(), PRUNED)


@dataclass(frozen=True)
class Layer:
    """A prunable weight [any shape, any float type], and a bool tensor: alive (None: all are)."""

    weight: Tensor
    alive: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.weight.shape)

    @cached_property
    def num_alive(self) -> int:
        return self.weight.numel() if self.alive is None else count(self.alive)

    @property
    def flat(self) -> Tensor:
        """The weight in the order of its indices; a copy where memory has another order."""
        return self.weight.detach().reshape(-1)

    @property
    def flat_alive(self) -> Tensor | None:
        """`alive` in the order of its indices; None where every weight is."""
        is_whole = self.alive is None or self.num_alive == self.weight.numel()
        return None if is_whole or self.alive is None else self.alive.reshape(-1)

    def keys(self) -> Tensor:
        """Return the keys of the whole layer: int32, flat."""
        return magnitude_keys(self.weight, self.alive)


@dataclass(frozen=True)
class ChunkKeys:
    """The keys of layers, made a chunk at a time in every iteration."""

    layers: Sequence[Layer]

    def __iter__(self) -> Iterator[Tensor]:
        for layer in self.layers:
            weights, alive = layer.flat, layer.flat_alive
            for start in range(0, len(weights), CHUNK):
                chunk = slice(start, start + CHUNK)
                yield magnitude_keys(weights[chunk], None if alive is None else alive[chunk])


@dataclass(frozen=True)
class Threshold:
    """Keys above `key` stay, and the first `num_ties` of those equal to it."""

    key: int
    num_ties: int


def find_threshold(keys: Iterable[Tensor], num_kept: int) -> Threshold:
    """Return the threshold that keeps exactly `num_kept` keys of all tensors together.

    The keys are int32 tensors, iterated several times; negative ones never stay.
    """
    assert num_kept > 0
    key, rest = 0, num_kept
    for low, num_bits in _PASSES:
        digit, rest = locate(_histogram(keys, key, low, num_bits), rest)
        key |= digit << low
    return Threshold(key, rest)


def locate(counts: Tensor, num_kept: int) -> tuple[int, int]:
    """Return the bin with the num_kept-th largest, and how many are wanted from that bin."""
    from_top = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_top, num_kept))
    above = int(from_top[place - 1]) if place else 0
    return counts.numel() - 1 - place, num_kept - above


def _histogram(all_keys: Iterable[Tensor], known: int, low: int, num_bits: int) -> Tensor:
    """Count keys by the value of the next bits, of those whose higher bits are the known ones."""
    num_bins, above = 1 << num_bits, low + num_bits
    counts = torch.zeros(num_bins, dtype=torch.int64)
    for keys in all_keys:
        is_on_host = keys.device.type == "cpu"
        bits: Any = keys.numpy() if is_on_host else keys  # numpy selects several times as fast
        same = bits[bits >= 0 if above == _SIGN else bits >> above == known >> above]
        digits = same >> low & (num_bins - 1)
        if is_on_host:
            counted = torch.from_numpy(np.bincount(digits, minlength=num_bins))
        else:
            counted = torch.bincount(digits, minlength=num_bins)
        counts = counts.to(keys.device).add_(counted)
    return counts
