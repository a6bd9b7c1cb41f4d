"""The exact k-th largest of integer keys, by histograms over their bits instead of sorting.

Each pass over the keys settles some bits of the k-th one. Histograms may be summed over ranks that
hold a part of the keys each: that is all that has to travel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# (lowest bit, number of bits) that a pass settles; the sign bit is 0
_PASSES = ((16, 15), (8, 8), (0, 8))
_SIGN = 31


@dataclass(frozen=True)
class Cut:
    """Keys above `key` stay, and the first `num_ties` of those equal to it."""

    key: int
    num_ties: int


@dataclass(frozen=True)
class Parts:
    """One ranking whose keys lie on several ranks, in the order of the ranks.

    `total` sums an int64 tensor over them, which lies where the keys do; all of them must call.
    """

    total: Callable[[Tensor], Tensor] = lambda counts: counts
    rank: int = 0
    num_ranks: int = 1

    def sums(self, *counts: int) -> list[int]:
        """Of numbers. Every rank must call."""
        return [int(number) for number in self.total(torch.tensor(counts))]

    def own_ties(self, num_equal: int, num_ties: int) -> int:
        """How many of the `num_equal` ties here stay, of all ranks' the first `num_ties`.

        Every rank must call.
        """
        counts = [num_equal if rank == self.rank else 0 for rank in range(self.num_ranks)]
        before = sum(self.sums(*counts)[: self.rank])
        return min(max(num_ties - before, 0), num_equal)


WHOLE = Parts()


def find_cut(keys: Iterable[Tensor], num_kept: int, parts: Parts = WHOLE) -> Cut:
    """The cut that leaves exactly `num_kept` keys of all tensors together; negative ones are gone.

    int32 tensors, gone through several times.
    """
    assert num_kept > 0
    found, rest = 0, num_kept
    for low, num_bits in _PASSES:
        counts = parts.total(_histogram(keys, found, low, num_bits))
        digit, rest = locate(counts, rest)
        found |= digit << low
    return Cut(found, rest)


def locate(counts: Tensor, num_kept: int) -> tuple[int, int]:
    """The bin in which the num_kept-th largest lies, and how many are wanted from that bin."""
    from_top = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_top, num_kept))
    above = int(from_top[place - 1]) if place else 0
    return counts.numel() - 1 - place, num_kept - above


def _histogram(keys: Iterable[Tensor], found: int, low: int, num_bits: int) -> Tensor:
    """How many keys with the bits above those that are `found` have each value of the next."""
    counts = torch.zeros(1 << num_bits, dtype=torch.int64)
    for some in keys:
        count = _count_on_host if some.device.type == "cpu" else _count
        counts = counts.to(some.device).add_(count(some, found, low, num_bits))
    return counts


def _count(keys: Tensor, found: int, low: int, num_bits: int) -> Tensor:
    num_bins, above = 1 << num_bits, low + num_bits
    same = keys[keys >= 0 if above == _SIGN else keys >> above == found >> above]
    return torch.bincount(same >> low & (num_bins - 1), minlength=num_bins)


def _count_on_host(keys: Tensor, found: int, low: int, num_bits: int) -> Tensor:
    """The same; numpy selects several times as fast as torch does."""
    there, num_bins, above = keys.numpy(), 1 << num_bits, low + num_bits
    same = there[there >= 0 if above == _SIGN else there >> above == found >> above]
    return torch.from_numpy(np.bincount(same >> low & (num_bins - 1), minlength=num_bins))
