"""A data set: the facts that are known without reading it, its samples, and how they are split.

Nothing here imports torch before a data set is opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sms_dist.base.lookup import lookup
from sms_dist.config import DataConfig

if TYPE_CHECKING:  # planning reads the facts and must not pay for torch
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sms_dist.base.randomness import Stream

TaskName = Literal["classification", "segmentation", "translation"]
# (images, targets, sample ids, stream) -> images and targets; what moves pixels moves masks too
Augment: TypeAlias = "Callable[[Tensor, Tensor, Tensor, Stream], tuple[Tensor, Tensor]]"
# read(start, stop): uint8 images (N x C x H x W) and targets of the samples start ... stop - 1
Read: TypeAlias = "Callable[[int, int], tuple[Tensor, Tensor]]"
Grouping: TypeAlias = Mapping[str, Sequence[str]]  # sub-group -> its classes
FIELD = "data.subgroups"


@dataclass(frozen=True)
class Split:
    """Images (uint8, N x C x H x W) and targets: classes (int64, N) or masks (uint8, N x H x W).

    `subgroups` (int64, N) is for measuring only: training never sees it. `stored` are the images in
    the sizes in which they are stored (each C x h x w), where training takes parts of those.
    """

    images: Tensor
    targets: Tensor
    subgroups: Tensor | None = None
    stored: Sequence[NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def first(self, num_samples: int) -> Split:
        """Return the first samples in their stored order."""
        some = slice(num_samples)
        return Split(
            self.images[some],
            self.targets[some],
            None if self.subgroups is None else self.subgroups[some],
            None if self.stored is None else self.stored[some],
        )

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return the images and targets of some samples: a `Read`."""
        return self.images[start:stop], self.targets[start:stop]

    def select(self, indices: Tensor) -> Split:
        """Return the samples at these indices, in that order."""
        return Split(
            self.images[indices],
            self.targets[indices],
            None if self.subgroups is None else self.subgroups[indices],
            None if self.stored is None else [self.stored[i] for i in indices.tolist()],
        )


@dataclass(frozen=True)
class DatasetInfo:
    """The facts that a plan needs; `num_train` counts validation samples too."""

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
    has_numbers: bool = False  # inputs are whole numbers (int64), such as tokens

    @property
    def num_classes(self) -> int:
        """Return the number of a model's outputs: for each image, pixel or next token."""
        return self.vocabulary or len(self.classes)


def split_sizes(info: DatasetInfo, config: DataConfig) -> tuple[int, int]:
    """Return the numbers of training and validation samples; validation takes whole groups."""
    num_groups = info.num_train // info.group
    validation = (
        min(round(config.validation * info.num_train / info.group), num_groups) * info.group
    )
    if validation == info.num_train:
        raise ValueError(
            f"data.validation={config.validation} of {info.num_train} training samples"
            " leaves none to train on; lower it or raise data.train_samples"
        )
    return info.num_train - validation, validation


def is_validation(info: DatasetInfo, config: DataConfig) -> Tensor:
    """Return [info.num_train] bool, the same for every seed; samples of a group stay together."""
    import torch

    from sms_dist.base.randomness import stream

    _, num_validation = split_sizes(info, config)
    chosen = stream(0, "validation split").permutation(info.num_train // info.group)
    flags = torch.zeros(info.num_train, dtype=torch.bool)
    for offset in range(info.group):
        flags[chosen[: num_validation // info.group] * info.group + offset] = True
    return flags


def divided(split: Split, info: DatasetInfo, config: DataConfig) -> tuple[Split, Split]:
    """Return training and validation samples, each in stored order."""
    flags = is_validation(info, config)
    indices = flags.nonzero()[:, 0], (~flags).nonzero()[:, 0]
    validation, train = (split.select(some) for some in indices)
    return train, dataclasses.replace(validation, stored=None)


def with_subgroups(info: DatasetInfo, grouping: Grouping) -> DatasetInfo:
    """Return the facts with the sub-groups' names; ValueError unless each class is in one."""
    if not grouping:
        return info
    if info.task != "classification":
        raise ValueError(f"{FIELD} groups classes of images; data.name={info.name} has none")
    known = dict.fromkeys(info.classes)
    placed: dict[str, str] = {}
    for subgroup, classes in grouping.items():
        for name in classes:
            lookup(known, name, f"{FIELD}.{subgroup}")
            if name in placed:
                raise ValueError(f"{FIELD}: {name} is in {placed[name]} and in {subgroup}")
            placed[name] = subgroup
    if missing := [name for name in info.classes if name not in placed]:
        raise ValueError(f"{FIELD} leaves out {', '.join(missing)}; give each class a sub-group")
    return dataclasses.replace(info, subgroups=tuple(grouping))


def grouped(split: Split, info: DatasetInfo, grouping: Grouping) -> Split:
    """Return the split with each sample's sub-group, as its class decides."""
    if not grouping:
        return split
    import torch

    numbers = {name: i for i, classes in enumerate(grouping.values()) for name in classes}
    table = torch.tensor([numbers[name] for name in info.classes])
    return dataclasses.replace(split, subgroups=table[split.targets])
