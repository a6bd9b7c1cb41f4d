"""What a data set is: facts known without reading it, and images with labels once it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # planning reads the facts and must not pay for torch
    from torch import Tensor

    from sms_dist.randomness import Stream

Augment: TypeAlias = "Callable[[Tensor, Tensor, Stream], Tensor]"  # (images, sample ids, stream)


@dataclass(frozen=True)
class Split:
    """Images (uint8, N x C x H x W) and labels (int64, N)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, num_samples: int) -> Split:
        """The first samples in their stored order."""
        return Split(self.images[:num_samples], self.labels[:num_samples])

    def select(self, indices: Tensor) -> Split:
        """The samples at `indices`, in that order."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class DatasetInfo:
    """Facts that a plan needs. `num_train` counts training and validation samples together."""

    name: str
    num_train: int
    num_test: int
    input_shape: tuple[int, int, int]  # C, H, W
    classes: tuple[str, ...]
    group: int = 1  # so many consecutive training samples show one original: never to be separated

    @property
    def num_classes(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Dataset:
    """A data set in memory; `mean` and `std` are per channel, of pixels in [0, 1]."""

    info: DatasetInfo
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment | None  # of training batches only


@dataclass(frozen=True)
class Source:
    """A data set by name: its facts, and how to read it.

    `read(path, info, num_train)` gives the first num_train training samples and an empty
    validation split. Embedded sets need no path. For sets of files the counts in the `info` given
    are those of index.json, where there is one.
    """

    info: DatasetInfo
    read: Callable[[str | None, DatasetInfo, int], Dataset]
    is_embedded: bool
