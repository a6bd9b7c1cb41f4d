"""What a data set is: facts known without reading it, and samples once it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:  # planning reads the facts and must not pay for torch
    from torch import Tensor

    from sms_dist.base.randomness import Stream

TaskName = Literal["classification", "segmentation", "translation"]
# (images, targets, sample ids, stream) -> images and targets; what moves pixels moves masks too
Augment: TypeAlias = "Callable[[Tensor, Tensor, Tensor, Stream], tuple[Tensor, Tensor]]"


# read(start, stop): uint8 images (N x C x H x W) and targets of the samples start ... stop - 1
Read: TypeAlias = "Callable[[int, int], tuple[Tensor, Tensor]]"


@dataclass(frozen=True)
class Split:
    """Images (uint8, N x C x H x W) and targets: classes (int64, N) or masks (uint8, N x H x W).

    `subgroups` (int64, N) is for measuring only: training never sees it.
    """

    images: Tensor
    targets: Tensor
    subgroups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def first(self, num_samples: int) -> Split:
        """The first samples in their stored order."""
        few = slice(num_samples)
        subgroups = None if self.subgroups is None else self.subgroups[few]
        return Split(self.images[few], self.targets[few], subgroups)

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return a stretch of images and targets: a `Read`."""
        return self.images[start:stop], self.targets[start:stop]

    def select(self, indices: Tensor) -> Split:
        """The samples at `indices`, in that order."""
        subgroups = None if self.subgroups is None else self.subgroups[indices]
        return Split(self.images[indices], self.targets[indices], subgroups)


@dataclass(frozen=True)
class DatasetInfo:
    """Facts that a plan needs. `num_train` counts training and validation samples together."""

    name: str
    num_train: int
    num_test: int
    input_shape: tuple[int, ...]  # C, H, W of images; of sentences the most tokens
    classes: tuple[str, ...]
    group: int = 1  # so many consecutive training samples show one original: never to be separated
    task: str = "classification"  # a `TaskName`, or package.module:Class
    void: int | None = None  # of masks: the value of pixels that belong to no class
    subgroups: tuple[str, ...] = ()  # whose recall is measured
    vocabulary: int = 0  # of sentences: the number of tokens there are

    @property
    def num_classes(self) -> int:
        """The outputs of a model: for each image, pixel or next token."""
        return self.vocabulary or len(self.classes)
