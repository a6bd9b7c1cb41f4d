"""The embedded digits: scikit-learn's 8x8 images, plain or with fixed distortions."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sms_dist.config import DataConfig
from sms_dist.data.card import Card
from sms_dist.data.dataset import DatasetInfo, Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sms_dist.data.resident import Images

SCALE = 1.4  # 8 pixels become about 11
MAX_ANGLE, MAX_STRETCH, MAX_SHEAR, MAX_SHIFT = math.radians(20), 0.15, 0.2, 1.0
NOISE = 0.3  # standard deviation, of pixels in [0, 1]
# What the noisy pixels' 0 ... 255 stand for; beyond lies 1 pixel in 1000.
LOWEST, HIGHEST = -1.0, 2.0


@dataclass(frozen=True)
class Digits:
    """Reader `digits`: the plain images, or the card's `copies` of each in its size."""

    card: Card

    def described(self, config: DataConfig) -> DatasetInfo:
        """Return the facts on the card."""
        return self.card.info

    def facts(self, config: DataConfig) -> DatasetInfo:
        """Return the facts on the card."""
        return self.card.info

    def open(self, config: DataConfig, info: DatasetInfo) -> Images:
        """Return the data set in memory."""
        from sms_dist.data.resident import in_memory

        train, test = _plain()
        if copies := self.card.copies:
            size = self.card.size[0]
            train = _distorted(train, copies.train, "train", size)
            test = _distorted(test, copies.test, "test", size)
        wanted, shape = self.card.info, tuple(train.images.shape[1:])
        stored = (len(train), len(test), shape)
        if (wanted.num_train, wanted.num_test, wanted.input_shape) != stored:
            raise ValueError(
                f"the card of {self.card.name} does not fit: the digits are {len(train)} and"
                f" {len(test)} of {'x'.join(map(str, shape))}; correct samples, size or channels"
            )
        return in_memory(train, test, info, config, self.card.mean, self.card.std)


def _table() -> NDArray[np.float64]:
    """Return scikit-learn's table: a digit in each row, its class last.

    It is read out of its file: to import scikit-learn takes half as long as torch, at each start of
    each rank.
    """
    import numpy as np

    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ValueError("the embedded digits are scikit-learn's; pip install scikit-learn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(file, "rt") as lines:
        return np.loadtxt(lines, delimiter=",")


def _plain() -> tuple[Split, Split]:
    """Return train and test: every fifth of the shuffled digits sorted by class is a test digit."""
    import torch

    from sms_dist.base.randomness import stream

    table = torch.from_numpy(_table())
    pixels = table[:, :-1].to(torch.uint8) * 15  # 0 ... 16 -> 0 ... 240
    everything = Split(pixels.view(-1, 1, 8, 8), table[:, -1].long())
    shuffled = everything.select(stream(0, "digits split").permutation(len(everything)))
    is_test = torch.zeros(len(shuffled), dtype=torch.bool)
    is_test[torch.argsort(shuffled.targets, stable=True)[::5]] = True
    return shuffled.select(~is_test), shuffled.select(is_test)


def _distorted(split: Split, copies: int, name: str, size: int) -> Split:
    """Return `copies` fixed distortions of each image, side by side.

    In double precision, so that every machine rounds to the same pixels.
    """
    import torch

    from sms_dist.base.randomness import stream

    samples = torch.arange(len(split) * copies)
    origin = samples // copies
    affine = stream(0, f"digits distortion {name}").uniform(samples, 6).double() * 2 - 1
    noise = stream(0, f"digits noise {name}").uniform(samples, 2 * size * size).double()
    images = _warp(split.images[:, 0].double() / 240, origin, affine, size)
    images = images + NOISE * _normal(noise).view_as(images)
    levels = (images - LOWEST) / (HIGHEST - LOWEST) * 255
    return Split(levels.round().clamp(0, 255).to(torch.uint8)[:, None], split.targets[origin])


def _warp(images: Tensor, origin: Tensor, affine: Tensor, size: int) -> Tensor:
    """Return the images at `origin`, each turned, stretched, sheared and shifted by `affine`.

    8 x 8 pixels become size x size, linear between pixels and zero outside. `affine` (N x 6) is
    between -1 and 1: angle, shear, stretch and shift along both sides.
    """
    import numpy as np
    import torch
    from scipy import ndimage  # type: ignore[import-untyped]

    angle, shear = affine[:, 0] * MAX_ANGLE, affine[:, 1] * MAX_SHEAR
    stretch, shift = SCALE * (1 + affine[:, 2:4] * MAX_STRETCH), affine[:, 4:] * MAX_SHIFT
    grid = torch.arange(size).double() - (size - 1) / 2
    y = grid[None, :, None] - shift[:, 1, None, None]
    x = grid[None, None, :] - shift[:, 0, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turned_x = (x * cos - y * sin) / stretch[:, 0, None, None]
    turned_y = (x * sin + y * cos) / stretch[:, 1, None, None]
    source_x = turned_x + shear[:, None, None] * turned_y
    places = np.broadcast_arrays(origin.numpy()[:, None, None], turned_y + 3.5, source_x + 3.5)
    warped = ndimage.map_coordinates(images.numpy(), places, order=1, mode="grid-constant")
    return torch.from_numpy(warped)


def _normal(uniforms: Tensor) -> Tensor:
    """Return N x k standard normal numbers out of N x 2k uniforms (Box-Muller)."""
    first, second = uniforms.chunk(2, dim=1)
    return (-2 * (1 - first).log()).sqrt() * (2 * math.pi * second).cos()
