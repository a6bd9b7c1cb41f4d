"""Which training samples are for validation, and which sub-groups of samples are measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sms_dist.base.lookup import lookup
from sms_dist.config import DataConfig
from sms_dist.data.dataset import DatasetInfo, Split

if TYPE_CHECKING:
    from torch import Tensor

Grouping = Mapping[str, Sequence[str]]  # sub-group -> its classes
FIELD = "data.subgroups"


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
    return split.select(~flags), split.select(flags)


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

    places = {name: i for i, classes in enumerate(grouping.values()) for name in classes}
    table = torch.tensor([places[name] for name in info.classes])
    return dataclasses.replace(split, subgroups=table[split.targets])
