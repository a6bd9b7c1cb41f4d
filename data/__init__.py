"""Data sets by name: what a plan needs to know of them, and how they are opened.

Nothing here imports torch before a data set is opened.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data import index, subgroups
from data.cifar import CIFAR10, CIFAR100
from data.dataset import Dataset, DatasetInfo, Source
from data.digits import DIGITS, DIGITS_DISTORTED
from data.division import split_sizes
from sms_dist.config import DataConfig
from sms_dist.lookup import lookup

__all__ = ["DATASETS", "Dataset", "DatasetInfo", "Source", "info", "load", "split_sizes"]

DATASETS: dict[str, Source] = {
    "digits": DIGITS,
    "digits_distorted": DIGITS_DISTORTED,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
}


def info(config: DataConfig) -> DatasetInfo:
    """The facts of the configured data set, after data.train_samples; no sample is read."""
    known = _shortened(_stored(config), config)
    return subgroups.named(known, config.subgroups)


def load(config: DataConfig) -> Dataset:
    """The configured data set; the validation samples are the same for every seed."""
    facts = info(config)
    split_sizes(facts, config)  # before anything is read
    return lookup(DATASETS, config.name, "data.name").open(config, facts)


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
