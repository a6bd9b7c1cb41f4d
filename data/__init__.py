"""Data sets by name: what a plan needs to know of them, how they are read, split and loaded.

Nothing here imports torch before a data set is read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data import index
from data.cifar import CIFAR10, CIFAR100
from data.dataset import Dataset, DatasetInfo, Source
from data.digits import DIGITS, DIGITS_DISTORTED
from sms_dist.config import DataConfig
from sms_dist.lookup import lookup

if TYPE_CHECKING:
    import torch

    from data.dataset import Split
    from data.resident import Resident

DATASETS: dict[str, Source] = {
    "digits": DIGITS,
    "digits_distorted": DIGITS_DISTORTED,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
}


@dataclass(frozen=True)
class Loaders:
    """The splits of a data set on the device."""

    train: Resident
    validation: Resident
    test: Resident


def info(config: DataConfig) -> DatasetInfo:
    """The facts of the configured data set, after data.train_samples; no image is read."""
    return _shortened(_stored(config), config)


def split_sizes(info: DatasetInfo, config: DataConfig) -> tuple[int, int]:
    """Training and validation samples; validation takes whole groups."""
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


def load(config: DataConfig) -> Dataset:
    """The configured data set in memory; the validation samples are the same for every seed."""
    known = _stored(config)
    facts = _shortened(known, config)
    _, num_validation = split_sizes(facts, config)
    whole = DATASETS[config.name].read(config.path, known, facts.num_train)
    train, validation = _divided(whole.train, num_validation, facts.group)
    augment = whole.augment if config.augment else None
    return dataclasses.replace(
        whole, info=facts, train=train, validation=validation, augment=augment
    )


def loaders(dataset: Dataset, batch_size: int, device: torch.device) -> Loaders:
    """All splits as resident loaders; only the training one augments."""
    from data.resident import Resident

    def resident(split: Split) -> Resident:
        augment = dataset.augment if split is dataset.train else None
        return Resident(split, batch_size, dataset.mean, dataset.std, augment, device)

    return Loaders(resident(dataset.train), resident(dataset.validation), resident(dataset.test))


def _stored(config: DataConfig) -> DatasetInfo:
    """Facts of everything that is stored."""
    source = lookup(DATASETS, config.name, "data.name")
    if source.is_embedded or config.path is None:
        return source.info
    return index.facts(source.info, Path(config.path))


def _shortened(info: DatasetInfo, config: DataConfig) -> DatasetInfo:
    wanted = config.train_samples or info.num_train
    if wanted > info.num_train:
        raise ValueError(
            f"data.train_samples={wanted}, but data.name={info.name} has {info.num_train}"
            " training samples; lower it, or leave it out to use them all"
        )
    return dataclasses.replace(info, num_train=wanted)


def _divided(split: Split, num_validation: int, group: int) -> tuple[Split, Split]:
    """Training and validation samples, each in stored order; consecutive groups stay together."""
    import torch

    from sms_dist.randomness import stream

    chosen = stream(0, "validation split").permutation(len(split) // group)
    is_validation = torch.zeros(len(split), dtype=torch.bool)
    for offset in range(group):
        is_validation[chosen[: num_validation // group] * group + offset] = True
    return split.select(~is_validation), split.select(is_validation)
