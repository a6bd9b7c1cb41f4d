"""Data sets by name: what a plan needs to know of them, and how they are opened.

Nothing here imports torch before a data set is opened.
"""

from __future__ import annotations

import dataclasses

from data import own, subgroups
from data.camvid import CAMVID
from data.carded import CardSource
from data.celeba import CELEBA
from data.cifar import CIFAR10, CIFAR100
from data.cityscapes import CITYSCAPES
from data.dataset import Dataset, DatasetInfo, Source
from data.digits import DIGITS, DIGITS_DISTORTED
from data.division import split_sizes
from data.imagenet import IMAGENET
from data.texts.sources import MULTI30K, PARALLEL, WMT16
from sms_dist.config import DataConfig
from sms_dist.lookup import lookup

__all__ = [
    "DATASETS", "Dataset", "DatasetInfo", "Source",
    "card_source", "described", "info", "load", "split_sizes",
]  # fmt: skip

DATASETS: dict[str, Source] = {
    "digits": DIGITS,
    "digits_distorted": DIGITS_DISTORTED,
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "imagenet": IMAGENET,
    "celeba": CELEBA,
    "cityscapes": CITYSCAPES,
    "camvid": CAMVID,
    "multi30k": MULTI30K,
    "wmt16": WMT16,
    "parallel": PARALLEL,
    "card": own.CARD,
}


def info(config: DataConfig) -> DatasetInfo:
    """The facts of the configured data set, after data.train_samples; no sample is read."""
    source = lookup(DATASETS, config.name, "data.name")
    if not isinstance(source, CardSource):
        _check_no_images(config)
    known = source.facts(config)
    return subgroups.named(_shortened(known, config), config.subgroups)


def described(config: DataConfig) -> DatasetInfo:
    """The facts by name and options; of files, no more than a card or a vocabulary is read.

    Classes may have no names yet, and numbers of samples may be those of the whole set, or 0.
    """
    return lookup(DATASETS, config.name, "data.name").described(config)


def card_source(name: str, field: str) -> CardSource:
    """Of a data set that a card describes; ValueError naming `field` for any other."""
    carded = {key: entry for key, entry in DATASETS.items() if isinstance(entry, CardSource)}
    return lookup(carded, name, field)


def load(config: DataConfig) -> Dataset:
    """The configured data set; the validation samples are the same for every seed."""
    facts = info(config)
    split_sizes(facts, config)  # before anything is read
    source = lookup(DATASETS, config.name, "data.name")
    if config.loader == "streaming" and not isinstance(source, CardSource):
        raise ValueError(
            f"data.loader=streaming reads shards of images, and data.name={config.name} is kept in "
            "memory; leave it out"
        )
    return source.open(config, facts)


def _check_no_images(config: DataConfig) -> None:
    """Nothing is asked for that only images on disk have."""
    for key in ("size", "target", "subgroup"):
        if getattr(config, key) is not None:
            raise ValueError(
                f"data.{key}={getattr(config, key)} is for images on disk, and"
                f" data.name={config.name} are none; leave it out"
            )


def _shortened(info: DatasetInfo, config: DataConfig) -> DatasetInfo:
    wanted = config.train_samples or info.num_train
    if wanted > info.num_train:
        raise ValueError(
            f"data.train_samples={wanted}, but data.name={info.name} has {info.num_train}"
            " training samples; lower it, or leave it out to use them all"
        )
    return dataclasses.replace(info, num_train=wanted)
