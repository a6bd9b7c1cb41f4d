"""The largest magnitudes in one pass over weights in the host's memory.

A sample says between which bit patterns the cut lies, most probably. The pass keeps what is above
and sets aside the little that is in between, of which the exact cut leaves some. Where the sample
was wrong, or too many weights are equal, the answer is None; a wrong mask it never is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import gcd, sqrt
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sms_dist.pruning.cut import WHOLE, Parts, find_cut, locate
from sms_dist.pruning.layer import Layer

Array: TypeAlias = npt.NDArray[Any]

_CHUNK = 1 << 17  # weights looked at together: they stay in the processor's cache
_SMALL = 1 << 16  # all of so few are set aside
_MOST = 1 / 64  # of the weights are to be set aside at most
_FEW = 1 << 18  # or so many
_SIGMAS = 3  # a miss costs several more passes, and happens to one in 370
_NUM_BINS = 1 << 15  # a sampled key's high bits: a bf16's without its sign
_MAGNITUDE = {np.dtype(kind): np.iinfo(kind).max for kind in (np.int16, np.int32)}  # no sign
_VIEWS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


@dataclass(frozen=True)
class _Bracket:
    """The lowest and the highest bin of the keys in which the cut is looked for."""

    low: int
    high: int

    def limits(self, kind: np.dtype[Any]) -> tuple[Any, Any]:
        """Keys above the first are in the bracket or above it, those above the second above it."""
        if kind.itemsize == 2:
            return np.int16(self.low - 1), np.int16(self.high)
        return np.int32((self.low << 16) - 1), np.int32(self.high << 16 | 0xFFFF)


class _SetAside(NamedTuple):
    """The weights of a chunk that lie in the bracket."""

    kept: Array  # bool: the chunk's part of the mask
    places: Array  # in the chunk
    keys: Array  # int32


def keep_largest(
    layers: Sequence[Layer], num_kept: int, parts: Parts = WHOLE
) -> list[Tensor] | None:
    """Bool tensors in the layers' shapes with exactly `num_kept` true: see selection.py.

    None where that takes another way. Every rank of `parts` must call, and gets None if one does.
    """
    bracket = _bracket(layers, num_kept, parts)
    if bracket is None:
        return None
    # numpy's large arrays come in huge pages: a quarter of the time that 4 KiB ones take
    mask = np.empty(sum(layer.weight.numel() for layer in layers), dtype=np.bool_)
    aside = list(_passed(layers, mask, bracket))
    keys = np.concatenate([np.empty(0, np.int32), *(chunk.keys for chunk in aside)])
    inside, above = parts.sums(len(keys), int(np.count_nonzero(mask)) - len(keys))
    if not above < num_kept <= above + inside:
        return None
    cut = find_cut([torch.from_numpy(keys)], num_kept - above, parts)
    ties = np.flatnonzero(keys == cut.key)
    goes = keys < cut.key
    goes[ties[parts.own_ties(len(ties), cut.num_ties) :]] = True
    _take_out_(aside, goes)
    sizes = [layer.weight.numel() for layer in layers]
    pieces = torch.split(torch.from_numpy(mask), sizes)
    return [piece.view(layer.shape) for piece, layer in zip(pieces, layers, strict=True)]


def _bracket(layers: Sequence[Layer], num_kept: int, parts: Parts) -> _Bracket | None:
    """Where the num_kept-th largest of all is, most probably; None where that says too little."""
    num_here = sum(layer.weight.numel() for layer in layers)
    num, alive = parts.sums(num_here, sum(layer.num_alive for layer in layers))
    if num <= _SMALL:
        return _Bracket(0, _NUM_BINS - 1)
    sampled = parts.total(torch.from_numpy(_sample(layers, _stride(num))))
    num_sampled = int(sampled.sum())
    share = num_kept / alive
    margin = _SIGMAS * sqrt(num_sampled * share * (1 - share)) + 1
    most, least = num_sampled * share - margin, num_sampled * share + margin
    high = locate(sampled, int(most))[0] if most >= 1 else _NUM_BINS - 1
    low = locate(sampled, int(least) + 1)[0] if least < num_sampled else 0
    expected = int(sampled[low : high + 1].sum()) * alive / max(num_sampled, 1)
    return _Bracket(low, high) if expected <= max(_MOST * num, _FEW) else None


def _stride(num: int) -> int:
    """Between sampled weights: a larger sample takes longer, and leaves fewer to set aside.

    It has no divisor in common with a kernel's size or other likely shapes.
    """
    return next(n for n in count(int(num ** (1 / 3))) if gcd(n, 2 * 3 * 5 * 7 * 11 * 13) == 1)


def _sample(layers: Sequence[Layer], stride: int) -> Array:
    """How many of the sampled living weights have each value of the key's high bits."""
    found, start = [np.empty(0, np.int16)], 0
    for layer in layers:
        weights, alive = layer.flat[start::stride], layer.flat_alive
        bits = _bits(weights)
        high = bits if bits.itemsize == 2 else (bits >> 16).astype(np.int16)
        found.append(high if alive is None else high[alive[start::stride].numpy()])
        start = (start - layer.weight.numel()) % stride
    return np.bincount(np.concatenate(found) & 0x7FFF, minlength=_NUM_BINS)


def _passed(layers: Sequence[Layer], mask: Array, bracket: _Bracket) -> Iterator[_SetAside]:
    """Write what is in the bracket or above it to the mask, and give what is in it."""
    keys_there, inside_there = np.empty(_CHUNK, np.int32), np.empty(_CHUNK, np.bool_)
    limits = {kind: bracket.limits(kind) for kind in _MAGNITUDE}
    start = 0
    for bits, alive in _chunks(layers):
        size, (low, high) = len(bits), limits[bits.dtype]
        keys = keys_there.view(bits.dtype)[:size]
        kept, inside = mask[start : start + size], inside_there[:size]
        np.bitwise_and(bits, _MAGNITUDE[bits.dtype], out=keys)
        np.greater(keys, low, out=kept)
        np.greater(keys, high, out=inside)
        np.not_equal(kept, inside, out=inside)
        if alive is not None:
            np.logical_and(kept, alive, out=kept)
            np.logical_and(inside, alive, out=inside)
        places = np.flatnonzero(inside)
        yield _SetAside(kept, places.astype(np.int32), _wide(keys[places]))
        start += size


def _chunks(layers: Sequence[Layer]) -> Iterator[tuple[Array, Array | None]]:
    """Bits of the weights in their order, and which of them live (None: all)."""
    for layer in layers:
        weights, alive = layer.flat, layer.flat_alive
        native = _bits(weights) if weights.dtype in _VIEWS else None
        living = None if alive is None else alive.numpy()
        for start in range(0, len(weights), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            bits = _bits(weights[chunk]) if native is None else native[chunk]
            yield bits, None if living is None else living[chunk]


def _bits(weights: Tensor) -> Array:
    """int16 of bf16, int32 of any other type: the sign, then bits in the order of magnitude."""
    seen = weights if weights.dtype in _VIEWS else weights.float()
    return seen.view(_VIEWS[seen.dtype]).numpy()


def _wide(keys: Array) -> Array:
    """int32 keys of int16 ones: a bf16 is the high half of an fp32."""
    return keys if keys.itemsize == 4 else keys.astype(np.int32) << 16


def _take_out_(aside: Sequence[_SetAside], goes: Array) -> None:
    """Out of the mask, what goes of the weights set aside."""
    start = 0
    for chunk in aside:
        end = start + len(chunk.places)
        chunk.kept[chunk.places[goes[start:end]]] = False
        start = end
