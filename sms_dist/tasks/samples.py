"""Test samples with what models say of them: what people look at beside the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Guess:
    """A class, and how probable a model finds it."""

    number: int
    probability: float


@dataclass(frozen=True)
class LabelledImage:
    """`place` in the test set counts from 0; `guesses` has one for each model."""

    place: int
    image: Bytes  # C x H x W
    wanted: int
    guesses: tuple[Guess, ...]

    @property
    def is_disputed(self) -> bool:
        """Whether the models differ."""
        return len({guess.number for guess in self.guesses}) > 1


@dataclass(frozen=True)
class Prediction:
    """A class for each pixel, and the mIoU of this one image; None where no pixel counts."""

    mask: Bytes  # H x W
    miou: float | None


@dataclass(frozen=True)
class Scene:
    """An image with the mask that is wanted, and each model's."""

    place: int
    image: Bytes  # C x H x W
    wanted: Bytes  # H x W
    predictions: tuple[Prediction, ...]

    @property
    def is_disputed(self) -> bool:
        first, *others = (prediction.mask for prediction in self.predictions)
        return not all(np.array_equal(first, other) for other in others)


@dataclass(frozen=True)
class Sentence:
    """A sentence, its translation by people, and each model's."""

    place: int
    source: str
    reference: str
    translations: tuple[str, ...]

    @property
    def is_disputed(self) -> bool:
        return len(set(self.translations)) > 1


Sample: TypeAlias = LabelledImage | Scene | Sentence
