"""The k weights of largest magnitude, exactly; ties by lower (layer, index)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sms_dist.pruning import bracket
from sms_dist.pruning.cut import WHOLE, Cut, Parts, find_cut
from sms_dist.pruning.layer import CHUNK, ChunkKeys, Layer


@torch.no_grad()
def keep_largest(layers: Sequence[Layer], num_kept: int, parts: Parts = WHOLE) -> list[Tensor]:
    """Bool tensors in the layers' shapes with exactly `num_kept` true in all: the largest.

    With `parts`, of the layers of all ranks together, and every rank must call; those of lower
    ranks come first.
    """
    if num_kept == 0:
        return [torch.zeros_like(layer.weight, dtype=torch.bool) for layer in layers]
    if all(layer.weight.device.type == "cpu" for layer in layers):
        found = bracket.keep_largest(layers, num_kept, parts)
        if found is not None:
            return found
    return _in_passes(layers, num_kept, parts)


def _in_passes(layers: Sequence[Layer], num_kept: int, parts: Parts) -> list[Tensor]:
    """Whatever the device and the number of ties, in several passes over the weights."""
    cut = find_cut(ChunkKeys(layers), num_kept, parts)
    num_ties = cut.num_ties
    if parts.num_ranks > 1:
        num_equal = sum(int((keys == cut.key).sum()) for keys in ChunkKeys(layers))
        num_ties = parts.own_ties(num_equal, num_ties)
    return _masks(layers, Cut(cut.key, num_ties))


def _masks(layers: Sequence[Layer], cut: Cut) -> list[Tensor]:
    """What stays of each layer: keys above the cut, and the first ties."""
    masks, ties_left = [], cut.num_ties
    for layer in layers:
        flat = torch.empty(layer.weight.numel(), dtype=torch.bool, device=layer.weight.device)
        masks.append(flat.view(layer.shape))
        for kept, keys in zip(torch.split(flat, CHUNK), ChunkKeys([layer]), strict=False):
            torch.gt(keys, cut.key, out=kept)
            if ties_left:
                ties = torch.nonzero(keys == cut.key).flatten()[:ties_left]
                kept[ties] = True
                ties_left -= len(ties)
    return masks
