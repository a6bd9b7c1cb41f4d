"""Data sets by name: what a plan needs to know of them, and how they are opened.

Nothing here imports torch before a data set is opened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from sms_dist.base.lookup import is_own_name, lookup
from sms_dist.config import DataConfig
from sms_dist.data import card as cards
from sms_dist.data.dataset import DatasetInfo, split_sizes, with_subgroups
from sms_dist.data.digits import Digits
from sms_dist.data.images import AttributeFiles, CifarFiles, ImageFiles
from sms_dist.data.own_dataset import OwnDataset
from sms_dist.data.texts import TextFiles

if TYPE_CHECKING:
    from sms_dist.data.loader import Dataset

__all__ = [
    "READERS",
    "DatasetInfo",
    "Source",
    "described",
    "image_source",
    "info",
    "load",
    "source",
    "split_sizes",
]


class Source(Protocol):
    """A data set by name: its facts, and how to open it."""

    def described(self, config: DataConfig) -> DatasetInfo:
        """Return the facts by name and options, without a look at the samples' files.

        Classes may have no names yet, and numbers of samples may be those of the whole set, or 0.
        """
        ...

    def facts(self, config: DataConfig) -> DatasetInfo:
        """Return the facts of all stored samples, with the counts of index.json if there is one."""
        ...

    def open(self, config: DataConfig, info: DatasetInfo) -> Dataset:
        """Return the data set of the first info.num_train samples; some are for validation."""
        ...


# What a card's `reader` names.
READERS: dict[str, Callable[[Any], Source]] = {
    "shards": ImageFiles,
    "torchvision": CifarFiles,
    "attributes": AttributeFiles,
    "digits": Digits,
    "text": TextFiles,
}


def source(config: DataConfig, field: str = "data.name") -> Source:
    """Return the data set that data.name says; ValueError that names `field` for an unknown one."""
    if is_own_name(config.name):
        return OwnDataset(config.name)
    path = cards.path_of(config.name, config.path, field)
    card = cards.read(path)
    return lookup(READERS, card.reader, f"{path}: reader")(card)


def image_source(config: DataConfig, field: str) -> ImageFiles:
    """Return a set of images on disk; ValueError that names `field` for any other."""
    chosen = source(config, field)
    if isinstance(chosen, ImageFiles):
        return chosen
    images = [
        name
        for name in cards.names()
        if name == cards.OWN or isinstance(source(DataConfig(name=name)), ImageFiles)
    ]
    raise ValueError(
        f"{field}={config.name} is no set of images on disk; valid values: {', '.join(images)}"
    )


def info(config: DataConfig) -> DatasetInfo:
    """Return the facts of the configured data set, after data.train_samples; no sample is read."""
    return _info(source(config), config)


def described(config: DataConfig) -> DatasetInfo:
    """Return the facts by name and options; of files, only a card or a vocabulary is read.

    Classes may have no names yet, and numbers of samples may be those of the whole set, or 0.
    """
    return source(config).described(config)


def load(config: DataConfig) -> Dataset:
    """Return the configured data set; the validation samples are the same for every seed."""
    chosen = source(config)
    facts = _info(chosen, config)
    split_sizes(facts, config)  # before anything is read
    if config.loader == "streaming" and not isinstance(chosen, ImageFiles):
        raise ValueError(
            f"data.loader=streaming reads shards of images, and data.name={config.name} is kept in "
            "memory; leave it out"
        )
    return chosen.open(config, facts)


def _info(chosen: Source, config: DataConfig) -> DatasetInfo:
    if not isinstance(chosen, ImageFiles):
        _check_no_images(config)
    return with_subgroups(_shortened(chosen.facts(config), config), config.subgroups)


def _check_no_images(config: DataConfig) -> None:
    """Raise a ValueError for a key that only images on disk have."""
    for key in ("size", "target", "subgroup"):
        if getattr(config, key) is not None:
            raise ValueError(
                f"data.{key}={getattr(config, key)} is for images on disk, and"
                f" data.name={config.name} are none; leave it out"
            )


def _shortened(info: DatasetInfo, config: DataConfig) -> DatasetInfo:
    """Return the facts with data.train_samples; ValueError if there are not so many."""
    wanted = config.train_samples or info.num_train
    if wanted > info.num_train:
        raise ValueError(
            f"data.train_samples={wanted}, but data.name={info.name} has {info.num_train}"
            " training samples; lower it, or leave it out to use them all"
        )
    return dataclasses.replace(info, num_train=wanted)
