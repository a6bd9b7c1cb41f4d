"""Surviving weights and unpruned parameters as one flat vector: what ranks exchange."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from sms_dist.soups.states import real

Tensors = Mapping[str, Tensor]
Mask = Mapping[str, Tensor]

_CHUNK = 1 << 20  # values looked at together: bounds the extra memory
_LARGEST_INT32 = 2**31 - 1
_FEW = 8  # one of so many survives: the places take a quarter of the weights' memory at most


class SurvivingVector:
    """The places of the values that travel, in the tensors of a state; made once for a mask.

    It takes at most 4 bytes for each surviving weight, or a quarter of the weights' own memory
    where that is more: int64 places are used as they are, int32 ones are converted at each use.
    """

    def __init__(self, like: Tensors, names: Sequence[str], mask: Mask) -> None:
        """Find the places of what `mask` keeps.

        `like` has the shapes and types of the tensors called `names`, which travel in this order;
        it may lie on the meta device.
        """
        self._like = {name: like[name] for name in names}
        self._places = {n: _places(_of_real(like[n], mask[n])) for n in names if n in mask}
        sizes = {name: real(tensor).numel() for name, tensor in self._like.items()}
        self._sizes = sizes | {name: len(places) for name, places in self._places.items()}
        self.num_values = sum(self._sizes.values())
        self.dtype = _common_dtype(self._like.values())

    def flatten(self, tensors: Tensors, multiple: int = 1) -> Tensor:
        """Return the tensors one after the other, without the weights that the mask prunes.

        Zeros at the end make the length a multiple of `multiple`.
        """
        some = [real(tensors[name].detach()) for name in self._like]
        dtype = _common_dtype(some)
        length = -(-self.num_values // multiple) * multiple
        vector = torch.empty(length, dtype=dtype, device=some[0].device)
        vector[self.num_values :] = 0
        pieces = torch.split(vector[: self.num_values], list(self._sizes.values()))
        for name, tensor, piece in zip(self._like, some, pieces, strict=True):
            flat, places = tensor.reshape(-1), self._places.get(name)
            if places is not None and flat.dtype == dtype:
                torch.index_select(flat, 0, places, out=piece)
            else:
                piece.copy_(flat if places is None else flat.index_select(0, places))
        return vector

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the tensors of a vector, the inverse of `flatten`: pruned weights are zero."""
        assert len(vector) == self.num_values, f"{len(vector)} values for {self.num_values} places"
        tensors = {}
        values = torch.split(vector, list(self._sizes.values()))
        for (name, like), some in zip(self._like.items(), values, strict=True):
            # Each in memory of its own, which has mostly been used before: fresh pages for all of
            # them together take four times as long.
            shape, dtype = real(like).shape, real(like).dtype
            flat = torch.zeros(shape.numel(), dtype=dtype, device=vector.device)
            places = self._places.get(name)
            if places is None:
                flat.copy_(some)
            else:
                _scatter_(flat, places, some.to(dtype))
            whole = flat.view(shape)
            tensors[name] = torch.view_as_complex(whole) if like.is_complex() else whole
        return tensors


def _of_real(like: Tensor, kept: Tensor) -> Tensor:
    """Return the mask of what `real` makes of a tensor."""
    return kept[..., None].expand(*kept.shape, 2) if like.is_complex() else kept


def _common_dtype(tensors: Iterable[Tensor]) -> torch.dtype:
    return reduce(torch.promote_types, {real(tensor).dtype for tensor in tensors})


def _places(kept: Tensor) -> Tensor:
    """Return the flat indices of what is kept; int32 if there are many and it is large enough."""
    flat = kept.reshape(-1)
    num, num_kept = flat.numel(), _num_true(flat)
    is_small = num <= _LARGEST_INT32 and num_kept > num // _FEW
    dtype = torch.int32 if is_small else torch.int64
    places = torch.empty(num_kept, dtype=dtype, device=flat.device)
    start = 0
    for i, chunk in enumerate(torch.split(flat, _CHUNK)):
        some = _true(chunk)
        torch.add(some, i * _CHUNK, out=places[start : start + len(some)])
        start += len(some)
    return places


def _num_true(kept: Tensor) -> int:
    if kept.device.type == "cpu":  # torch's takes five times as long
        return int(np.count_nonzero(kept.numpy()))
    return int(torch.count_nonzero(kept))


def _true(kept: Tensor) -> Tensor:
    if kept.device.type == "cpu":  # torch's takes four times as long
        return torch.from_numpy(np.flatnonzero(kept.numpy()))
    return torch.nonzero(kept).flatten()


def _scatter_(flat: Tensor, places: Tensor, values: Tensor) -> None:
    pairs = zip(torch.split(places, _CHUNK), torch.split(values, _CHUNK), strict=True)
    for some_places, some in pairs:
        flat.index_copy_(0, some_places.long(), some)
