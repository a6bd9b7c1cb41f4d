"""A prunable weight as a ranking sees it: magnitudes, and which of them are still there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sms_dist.pruning.mask import count

CHUNK = 1 << 20  # weights looked at together: bounds the extra memory
PRUNED = -1


def magnitude_keys(weights: Tensor, alive: Tensor | None = None) -> Tensor:
    """int32 keys in the order of |weight|, flat; PRUNED where not alive.

    Non-negative floats have the order of their bit patterns read as integers.
    """
    keys = weights.detach().float().view(torch.int32).bitwise_and(0x7FFFFFFF).flatten()
    return keys if alive is None else keys.masked_fill_(~alive.flatten(), PRUNED)


@dataclass(frozen=True)
class Layer:
    """A weight [any shape, any float type], and the bool tensor of what is alive (None: all)."""

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
        """None where every weight is."""
        is_whole = self.alive is None or self.num_alive == self.weight.numel()
        return None if is_whole or self.alive is None else self.alive.reshape(-1)

    def keys(self) -> Tensor:
        """int32, flat: of the whole layer."""
        return magnitude_keys(self.weight, self.alive)


@dataclass(frozen=True)
class ChunkKeys:
    """The keys of layers, made a chunk at a time whenever they are gone through."""

    layers: Sequence[Layer]

    def __iter__(self) -> Iterator[Tensor]:
        for layer in self.layers:
            weights, alive = layer.flat, layer.flat_alive
            for start in range(0, len(weights), CHUNK):
                chunk = slice(start, start + CHUNK)
                yield magnitude_keys(weights[chunk], None if alive is None else alive[chunk])
