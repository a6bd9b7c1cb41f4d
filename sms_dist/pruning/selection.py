"""The k largest scores, exactly, by histograms over the bits of the values instead of sorting.

Non-negative floats have the order of their bit patterns read as integers. Two passes, over the
high and the low 16 bits, find the k-th value whatever the number of weights; the histograms may be
summed over shards in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

_LOW_BITS = 16
_NUM_BINS = 1 << 15  # the sign bit is 0
_CHUNK = 1 << 20  # keys looked at together: bounds the extra memory
PRUNED = -1


@dataclass(frozen=True)
class Cut:
    """Keys above `key` stay, and the first `num_ties` of those equal to it."""

    key: int
    num_ties: int


def magnitude_keys(weights: Tensor, alive: Tensor) -> Tensor:
    """int32 keys in the order of |weight|, flat; PRUNED where not alive."""
    bits = weights.detach().float().abs().view(torch.int32)
    return bits.masked_fill(~alive, PRUNED).flatten()


def find_cut(
    layers: Iterable[Tensor],
    num_kept: int,
    total: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Cut:
    """The cut that leaves exactly `num_kept` keys of all layers together.

    `total` sums a histogram over shards, when each rank holds a part of the keys.
    """
    assert num_kept > 0
    layers = list(layers)
    high, rest = _locate(total(_histogram(layers, None)), num_kept)
    low, num_ties = _locate(total(_histogram(layers, high)), rest)
    return Cut(high << _LOW_BITS | low, num_ties)


def keep_largest(keys: Tensor, num_kept: int) -> Tensor:
    """A bool tensor with exactly `num_kept` true: the largest keys, ties by lower index."""
    if num_kept == 0:
        return torch.zeros_like(keys, dtype=torch.bool)
    cut = find_cut([keys], num_kept)
    kept = keys > cut.key
    kept[torch.nonzero(keys == cut.key).flatten()[: cut.num_ties]] = True
    return kept


def _histogram(layers: list[Tensor], high: int | None) -> Tensor:
    """How many keys have each value of the high bits; of the low bits, once `high` is known."""
    num_bins = _NUM_BINS if high is None else 1 << _LOW_BITS
    counts = torch.zeros(num_bins, dtype=torch.int64, device=layers[0].device)
    for layer in layers:
        for chunk in torch.split(layer, _CHUNK):
            alive = chunk[chunk >= 0]
            if high is None:
                values = alive >> _LOW_BITS
            else:
                values = alive[alive >> _LOW_BITS == high] & ((1 << _LOW_BITS) - 1)
            counts += torch.bincount(values, minlength=num_bins)
    return counts


def _locate(counts: Tensor, num_kept: int) -> tuple[int, int]:
    """The bin in which the num_kept-th largest lies, and how many are wanted from that bin."""
    from_top = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_top, num_kept))
    above = int(from_top[place - 1]) if place else 0
    return counts.numel() - 1 - place, num_kept - above
