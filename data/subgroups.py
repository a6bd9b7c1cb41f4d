"""Sub-groups of samples whose recall is measured, made from classes: `data.subgroups`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from data.dataset import DatasetInfo, Split
from sms_dist.lookup import lookup

Grouping = Mapping[str, Sequence[str]]  # sub-group -> its classes
FIELD = "data.subgroups"


def named(info: DatasetInfo, grouping: Grouping) -> DatasetInfo:
    """The facts with the sub-groups' names; ValueError unless each class is in exactly one."""
    if not grouping:
        return info
    if info.task != "classification":
        raise ValueError(f"{FIELD} groups classes of images; data.name={info.name} has none")
    legal = dict.fromkeys(info.classes)
    found: dict[str, str] = {}
    for subgroup, classes in grouping.items():
        for name in classes:
            lookup(legal, name, f"{FIELD}.{subgroup}")
            if name in found:
                raise ValueError(f"{FIELD}: {name} is in {found[name]} and in {subgroup}")
            found[name] = subgroup
    if missing := [name for name in info.classes if name not in found]:
        raise ValueError(f"{FIELD} leaves out {', '.join(missing)}; give each class a sub-group")
    return dataclasses.replace(info, subgroups=tuple(grouping))


def grouped(split: Split, info: DatasetInfo, grouping: Grouping) -> Split:
    """The split with each sample's sub-group, as its class decides."""
    if not grouping:
        return split
    import torch

    places = {name: i for i, classes in enumerate(grouping.values()) for name in classes}
    table = torch.tensor([places[name] for name in info.classes])
    return dataclasses.replace(split, subgroups=table[split.targets])
