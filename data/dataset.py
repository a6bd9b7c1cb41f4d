"""What a data set is: facts known without reading it, and what is there once it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:  # planning reads the facts and must not pay for torch
    import torch
    from torch import Tensor

    from data.loader import Loaders
    from sms_dist.config import DataConfig
    from sms_dist.randomness import Stream

TaskName = Literal["classification", "segmentation", "translation"]
# (images, targets, sample ids, stream) -> images and targets; what moves pixels moves masks too
Augment: TypeAlias = "Callable[[Tensor, Tensor, Tensor, Stream], tuple[Tensor, Tensor]]"


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
    task: TaskName = "classification"
    void: int | None = None  # of masks: the value of pixels that belong to no class
    subgroups: tuple[str, ...] = ()  # whose recall is measured
    vocabulary: int = 0  # of sentences: the number of tokens there are

    @property
    def num_classes(self) -> int:
        """The outputs of a model: for each image, pixel or next token."""
        return self.vocabulary or len(self.classes)


class Dataset(Protocol):
    """A data set that has been opened: in memory, or as files that are read while training."""

    @property
    def info(self) -> DatasetInfo: ...

    def loaders(self, batch_size: int, device: torch.device) -> Loaders:
        """All splits, of which only the training one augments."""
        ...


@dataclass(frozen=True)
class Source:
    """A data set by name: its facts, and how to open it.

    `open(config, info)` gives the data set with info.num_train training samples, those for
    validation taken out of them. Embedded sets need no path. For sets of files, the counts in the
    `info` given are those of index.json, where there is one.
    """

    info: DatasetInfo
    open: Callable[[DataConfig, DatasetInfo], Dataset]
    is_embedded: bool

    def described(self, config: DataConfig) -> DatasetInfo:
        """The facts by name and options, without a look at the samples' files.

        Classes may have no names yet, and numbers of samples may be those of the whole set, or 0.
        """
        return self.info

    def facts(self, config: DataConfig) -> DatasetInfo:
        """The facts of everything that is stored."""
        return self.described(config)
