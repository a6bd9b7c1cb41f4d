"""What travels: surviving weights and unpruned parameters as one flat vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Mask = Mapping[str, Tensor]

_CHUNK = 1 << 20  # values looked at together: bounds the extra memory
_LARGEST_INT32 = 2**31 - 1
_FEW = 8  # one of so many survives: the places take a quarter of the weights' memory at most


class Packing:
    """Where the values that travel lie in the tensors of a state; found once for a mask.

    That takes at most 4 bytes for each surviving weight, or a quarter of the weights' own memory
    where that is more: int64 places are used as they are, int32 ones are converted at each use.
    """

    def __init__(self, like: Tensors, names: Sequence[str], mask: Mask) -> None:
        """`like` has the shapes and types of the tensors called `names`, which travel in this
        order; it may lie on the meta device."""
        self._like = {name: like[name] for name in names}
        self._places = {name: _places(mask[name]) for name in names if name in mask}
        sizes = {name: tensor.numel() for name, tensor in self._like.items()}
        self._sizes = sizes | {name: len(places) for name, places in self._places.items()}
        self.num_values = sum(self._sizes.values())

    def pack(self, tensors: Tensors, multiple: int = 1) -> Tensor:
        """The tensors one after the other, without the weights that the mask prunes.

        Zeros at the end make its length a multiple.
        """
        some = [tensors[name].detach() for name in self._like]
        dtype = reduce(torch.promote_types, {tensor.dtype for tensor in some})
        length = -(-self.num_values // multiple) * multiple
        packed = torch.empty(length, dtype=dtype, device=some[0].device)
        packed[self.num_values :] = 0
        rooms = torch.split(packed[: self.num_values], list(self._sizes.values()))
        for name, tensor, room in zip(self._like, some, rooms, strict=True):
            flat, places = tensor.reshape(-1), self._places.get(name)
            if places is not None and flat.dtype == dtype:
                torch.index_select(flat, 0, places, out=room)
            else:
                room.copy_(flat if places is None else flat.index_select(0, places))
        return packed

    def unpack(self, packed: Tensor) -> dict[str, Tensor]:
        """The inverse of `pack`: pruned weights are zero; shapes and types are those of `like`."""
        assert len(packed) == self.num_values, f"{len(packed)} values for {self.num_values} places"
        tensors = {}
        values = torch.split(packed, list(self._sizes.values()))
        for (name, like), some in zip(self._like.items(), values, strict=True):
            # Each in memory of its own, which has mostly been used before: fresh pages for all of
            # them together take four times as long.
            flat = torch.zeros(like.numel(), dtype=like.dtype, device=packed.device)
            places = self._places.get(name)
            if places is None:
                flat.copy_(some)
            else:
                _scatter_(flat, places, some.to(like.dtype))
            tensors[name] = flat.view(like.shape)
        return tensors


def _places(kept: Tensor) -> Tensor:
    """The indices of what is true, flat; int32 where there are many and it is large enough."""
    flat = kept.reshape(-1)
    num, num_kept = flat.numel(), _num_true(flat)
    is_small = num <= _LARGEST_INT32 and num_kept > num // _FEW
    dtype = torch.int32 if is_small else torch.int64
    places = torch.empty(num_kept, dtype=dtype, device=flat.device)
    start = 0
    for i, chunk in enumerate(torch.split(flat, _CHUNK)):
        found = _true(chunk)
        torch.add(found, i * _CHUNK, out=places[start : start + len(found)])
        start += len(found)
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
