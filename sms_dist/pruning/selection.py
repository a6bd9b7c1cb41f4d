"""The k weights of largest magnitude, exactly; of equal ones the lower (layer, index) stays.

On the CPU mostly in one pass over the weights: a sample says between which bit patterns the
threshold lies, most probably. The pass keeps the weights above and sets aside the few in between,
among which the exact threshold decides. Where the sample was wrong, or too many weights are equal,
and on other devices, several passes find the threshold first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import gcd, sqrt
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sms_dist.pruning.threshold import CHUNK, ChunkKeys, Layer, find_threshold, locate

Array: TypeAlias = npt.NDArray[Any]

_HOST_CHUNK = 1 << 17  # weights of a chunk on the CPU: they stay in the processor's cache
_SMALL = 1 << 16  # weights, of which all are set aside
_MOST = 1 / 64  # of the weights may be set aside at most,
_FEW = 1 << 18  # or so many
_SIGMAS = 3  # a miss costs several more passes, and happens to one in 370
_NUM_BINS = 1 << 15  # a sampled key's high bits: a bf16's without its sign
_MAGNITUDE = {np.dtype(kind): np.iinfo(kind).max for kind in (np.int16, np.int32)}  # no sign
_VIEWS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


@torch.no_grad()
def keep_largest(layers: Sequence[Layer], num_kept: int) -> list[Tensor]:
    """Return bool tensors in the layers' shapes, `num_kept` of them true in all: the largest."""
    if num_kept == 0:
        return [torch.zeros_like(layer.weight, dtype=torch.bool) for layer in layers]
    masks = None
    if all(layer.weight.device.type == "cpu" for layer in layers):
        masks = _in_one_pass(layers, num_kept)
    return _in_passes(layers, num_kept) if masks is None else masks


def _in_passes(layers: Sequence[Layer], num_kept: int) -> list[Tensor]:
    """Find the threshold first, on any device and with any number of ties."""
    threshold = find_threshold(ChunkKeys(layers), num_kept)
    masks, ties_left = [], threshold.num_ties
    for layer in layers:
        flat = torch.empty(layer.weight.numel(), dtype=torch.bool, device=layer.weight.device)
        masks.append(flat.view(layer.shape))
        for kept, keys in zip(torch.split(flat, CHUNK), ChunkKeys([layer]), strict=False):
            torch.gt(keys, threshold.key, out=kept)
            if ties_left:
                ties = torch.nonzero(keys == threshold.key).flatten()[:ties_left]
                kept[ties] = True
                ties_left -= len(ties)
    return masks


class _Aside(NamedTuple):
    """The weights of a chunk that lie in the bracket."""

    kept: Array  # bool: the chunk's part of the mask
    places: Array  # in the chunk
    keys: Array  # int32


def _in_one_pass(layers: Sequence[Layer], num_kept: int) -> list[Tensor] | None:
    """Return the masks of weights in the host's memory, None where one pass does not do."""
    bins = _bracket(layers, num_kept)
    if bins is None:
        return None
    masks = [np.empty(layer.weight.numel(), dtype=np.bool_) for layer in layers]
    aside = list(_pass(layers, masks, *bins))
    keys = np.concatenate([np.empty(0, np.int32), *(chunk.keys for chunk in aside)])
    num_inside = len(keys)
    num_above = sum(int(np.count_nonzero(mask)) for mask in masks) - num_inside
    if not num_above < num_kept <= num_above + num_inside:
        return None
    threshold = find_threshold([torch.from_numpy(keys)], num_kept - num_above)
    goes = keys < threshold.key
    goes[np.flatnonzero(keys == threshold.key)[threshold.num_ties :]] = True
    start = 0
    for chunk in aside:
        end = start + len(chunk.places)
        chunk.kept[chunk.places[goes[start:end]]] = False
        start = end
    pairs = zip(masks, layers, strict=True)
    return [torch.from_numpy(mask).view(layer.shape) for mask, layer in pairs]


def _bracket(layers: Sequence[Layer], num_kept: int) -> tuple[int, int] | None:
    """Return the lowest and the highest bin in which the threshold lies, most probably.

    A bin is a key's high bits. None where the bracket holds too many weights.
    """
    num = sum(layer.weight.numel() for layer in layers)
    num_alive = sum(layer.num_alive for layer in layers)
    if num <= _SMALL:
        return 0, _NUM_BINS - 1
    sampled = _sample(layers, _stride(num))
    num_sampled = int(sampled.sum())
    share = num_kept / num_alive
    margin = _SIGMAS * sqrt(num_sampled * share * (1 - share)) + 1
    most, least = num_sampled * share - margin, num_sampled * share + margin
    high = locate(sampled, int(most))[0] if most >= 1 else _NUM_BINS - 1
    low = locate(sampled, int(least) + 1)[0] if least < num_sampled else 0
    expected = int(sampled[low : high + 1].sum()) * num_alive / max(num_sampled, 1)
    return (low, high) if expected <= max(_MOST * num, _FEW) else None


def _stride(num: int) -> int:
    """Return the distance of sampled weights: a larger sample takes longer, but sets aside fewer.

    It has no divisor in common with a kernel's size or other likely shapes.
    """
    return next(n for n in count(int(num ** (1 / 3))) if gcd(n, 2 * 3 * 5 * 7 * 11 * 13) == 1)


def _sample(layers: Sequence[Layer], stride: int) -> Tensor:
    """Count the sampled living weights by the high bits of their keys."""
    samples, start = [np.empty(0, np.int16)], 0
    for layer in layers:
        weights, alive = layer.flat[start::stride], layer.flat_alive
        bits = _bits(weights)
        high = bits if bits.itemsize == 2 else (bits >> 16).astype(np.int16)
        samples.append(high if alive is None else high[alive[start::stride].numpy()])
        start = (start - layer.weight.numel()) % stride
    return torch.from_numpy(np.bincount(np.concatenate(samples) & 0x7FFF, minlength=_NUM_BINS))


def _pass(layers: Sequence[Layer], masks: Sequence[Array], low: int, high: int) -> Iterator[_Aside]:
    """Write what is in the bracket or above it to the masks, and yield what is in it."""
    all_keys, all_inside = np.empty(_HOST_CHUNK, np.int32), np.empty(_HOST_CHUNK, np.bool_)
    # Keys above the first are in the bracket or above it, those above the second are above it.
    limits: dict[int, tuple[Any, Any]] = {
        2: (np.int16(low - 1), np.int16(high)),
        4: (np.int32((low << 16) - 1), np.int32(high << 16 | 0xFFFF)),
    }
    for kept, bits, alive in _chunks(layers, masks):
        keys, inside = all_keys.view(bits.dtype)[: len(bits)], all_inside[: len(bits)]
        below, above = limits[bits.itemsize]
        np.bitwise_and(bits, _MAGNITUDE[bits.dtype], out=keys)
        np.greater(keys, below, out=kept)
        np.greater(keys, above, out=inside)
        np.not_equal(kept, inside, out=inside)
        if alive is not None:
            np.logical_and(kept, alive, out=kept)
            np.logical_and(inside, alive, out=inside)
        places = np.flatnonzero(inside)
        keys = keys[places]
        if keys.itemsize == 2:  # a bf16 is the high half of an fp32
            keys = keys.astype(np.int32) << 16
        yield _Aside(kept, places.astype(np.int32), keys)


def _chunks(
    layers: Sequence[Layer], masks: Sequence[Array]
) -> Iterator[tuple[Array, Array, Array | None]]:
    """Yield a mask's part, bits of the weights in their order, and which are alive (None: all)."""
    for layer, mask in zip(layers, masks, strict=True):
        weights, alive = layer.flat, layer.flat_alive
        native = _bits(weights) if weights.dtype in _VIEWS else None
        for start in range(0, len(weights), _HOST_CHUNK):
            chunk = slice(start, start + _HOST_CHUNK)
            bits = _bits(weights[chunk]) if native is None else native[chunk]
            yield mask[chunk], bits, None if alive is None else alive[chunk].numpy()


def _bits(weights: Tensor) -> Array:
    """Return int16 of bf16, int32 of other types: the sign, then bits in the order of magnitude."""
    values = weights if weights.dtype in _VIEWS else weights.float()
    return values.view(_VIEWS[values.dtype]).numpy()
