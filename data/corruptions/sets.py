"""A corrupted test set: images that are read, or made, a stretch at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from data.dataset import Split

# read(start, stop): uint8 images (N x C x H x W) and targets of the samples start ... stop - 1
Read: TypeAlias = "Callable[[int, int], tuple[Tensor, Tensor]]"


@dataclass(frozen=True)
class CorruptedSet:
    """The test set under one corruption. `count` samples, in an order that never changes."""

    corruption: str
    severity: int
    count: int
    read: Read


def reader(split: Split) -> Read:
    """Of images in memory."""
    return lambda start, stop: (split.images[start:stop], split.targets[start:stop])
