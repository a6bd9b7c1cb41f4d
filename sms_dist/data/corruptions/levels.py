"""What every corruption is: a function of images, a severity and random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from torch import Tensor

# draw(k): uniforms in [0, 1), N x k, a row per image. To be called at most once: a second call
# would meet the same random numbers again.
Draw: TypeAlias = Callable[[int], Tensor]
# (uint8 N x C x H x W, severity 1 ... 5, draw) -> uint8, or float32 still to be rounded and clipped
Corrupt: TypeAlias = Callable[[Tensor, int, Draw], Tensor]

SMALL_BELOW = 64  # pixels of the shorter side

T = TypeVar("T")


def level(images: Tensor, severity: int, small: tuple[T, ...], large: tuple[T, ...]) -> T:
    """The published constant of a severity: CIFAR-C's for small images, ImageNet-C's for others."""
    constants = small if min(images.shape[-2:]) < SMALL_BELOW else large
    return constants[severity - 1]
