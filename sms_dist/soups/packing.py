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


class Packing:
    """Where the values that travel lie in the tensors of a state; found once for a mask.

    4 bytes are kept for each surviving weight.
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
        """The inverse of `pack`: pruned weights are zero; shapes and types are those of `like`.

        New tensors, which lie one after the other in the same memory.
        """
        assert len(packed) == self.num_values, f"{len(packed)} values for {self.num_values} places"
        tensors = _zeros(self._like, packed.device)
        values = torch.split(packed, list(self._sizes.values()))
        for (name, tensor), some in zip(tensors.items(), values, strict=True):
            places = self._places.get(name)
            if places is None:
                tensor.view(-1).copy_(some)
            else:
                _scatter_(tensor.view(-1), places, some.to(tensor.dtype))
        return tensors


def _places(kept: Tensor) -> Tensor:
    """The indices of what is true, flat; of a tensor with fewer than 2^31 values int32."""
    flat = kept.reshape(-1)
    dtype = torch.int32 if flat.numel() <= _LARGEST_INT32 else torch.int64
    chunks = torch.split(flat, _CHUNK)
    found = [_true(chunk).add_(i * _CHUNK).to(dtype) for i, chunk in enumerate(chunks)]
    return torch.cat(found)


def _true(kept: Tensor) -> Tensor:
    if kept.device.type == "cpu":  # torch's takes four times as long
        return torch.from_numpy(np.flatnonzero(kept.numpy()))
    return torch.nonzero(kept).flatten()


def _scatter_(flat: Tensor, places: Tensor, values: Tensor) -> None:
    pairs = zip(torch.split(places, _CHUNK), torch.split(values, _CHUNK), strict=True)
    for some_places, some in pairs:
        flat.index_copy_(0, some_places.long(), some)


def _zeros(like: Tensors, device: torch.device) -> dict[str, Tensor]:
    """Tensors of zeros, those of the same type in one piece of memory."""
    tensors: dict[str, Tensor] = {}
    for dtype in {tensor.dtype for tensor in like.values()}:
        same = {name: tensor for name, tensor in like.items() if tensor.dtype == dtype}
        sizes = [tensor.numel() for tensor in same.values()]
        pieces = torch.split(_flat_zeros(sum(sizes), dtype, device), sizes)
        tensors |= {
            name: piece.view(tensor.shape)
            for (name, tensor), piece in zip(same.items(), pieces, strict=True)
        }
    return {name: tensors[name] for name in like}


def _flat_zeros(num: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if device.type == "cpu":  # numpy's come in huge pages: a quarter of the time of 4 KiB ones
        return torch.from_numpy(np.zeros(num * dtype.itemsize, dtype=np.uint8)).view(dtype)
    return torch.zeros(num, dtype=dtype, device=device)
