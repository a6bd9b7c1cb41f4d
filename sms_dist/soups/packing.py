"""What travels: surviving weights and unpruned parameters as one flat vector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
Mask = Mapping[str, Tensor]


def pack(tensors: Tensors, names: list[str], mask: Mask) -> Tensor:
    """The tensors called `names`, one after the other, without the weights that the mask prunes."""
    return torch.cat([_surviving(tensors[name], mask.get(name)) for name in names])


def unpack(flat: Tensor, like: Tensors, names: list[str], mask: Mask) -> dict[str, Tensor]:
    """The inverse of `pack`: pruned weights are zero; shapes and types are those of `like`."""
    tensors, start = {}, 0
    for name in names:
        kept = mask.get(name)
        size = like[name].numel() if kept is None else int(kept.sum())
        tensors[name] = _restored(flat[start : start + size], like[name], kept)
        start += size
    assert start == flat.numel(), f"{flat.numel()} values for {start} places"
    return tensors


def _surviving(tensor: Tensor, kept: Tensor | None) -> Tensor:
    return tensor.flatten() if kept is None else tensor[kept]


def _restored(values: Tensor, like: Tensor, kept: Tensor | None) -> Tensor:
    if kept is None:
        return values.to(like.dtype).view(like.shape).clone()
    full = torch.zeros_like(like)
    full[kept] = values.to(like.dtype)
    return full
