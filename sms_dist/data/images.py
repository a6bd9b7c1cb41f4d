"""Sets of images on disk: facts, samples and opened data sets, as their cards say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sms_dist.base.lookup import lookup
from sms_dist.config import DataConfig
from sms_dist.data import index
from sms_dist.data.card import MAX_PIXELS, Card, SplitName
from sms_dist.data.dataset import DatasetInfo

if TYPE_CHECKING:
    from sms_dist.data.decode import Decoded
    from sms_dist.data.loader import Dataset


@dataclass(frozen=True)
class ImageFiles:
    """Reader `shards`: images in tar files."""

    card: Card

    def configured(self, config: DataConfig) -> Card:
        """Return the card with data.size; data.target and data.subgroup are refused."""
        for key, value in (("target", config.target), ("subgroup", config.subgroup)):
            if value is not None:
                raise ValueError(
                    f"data.{key}={value} chooses an attribute of data.name=celeba, and"
                    f" data.name={config.name} has none; leave it out"
                )
        return sized(self.card, config)

    def described(self, config: DataConfig) -> DatasetInfo:
        """Return the facts on the card."""
        return self.configured(config).info

    def facts(self, config: DataConfig) -> DatasetInfo:
        """Return the facts with the counts in the folder's index, if there is one."""
        card = self.configured(config)
        known = card.info if config.path is None else index.facts(card, Path(config.path))
        if known.num_train == 0 or known.num_test == 0:
            raise ValueError(
                f"{config.path} has no {index.FILE}, and its card no numbers of samples;"
                f" write the first with `sms-dist data index {config.path}`"
            )
        return known

    def samples(
        self, card: Card, config: DataConfig, split: SplitName, count: int
    ) -> Iterator[Decoded]:
        """Yield the first `count` samples of a split in stored order and size.

        ValueError if there are fewer, or, without data.train_samples, more of them.
        """
        from sms_dist.data.decode import decode, extensions
        from sms_dist.data.shards import open_shards

        shards, wanted = open_shards(card, config, split, count), extensions(card)
        for number in range(count):
            yield decode(card, shards.fields(number, wanted), shards.name(number))

    def open(self, config: DataConfig, info: DatasetInfo) -> Dataset:
        """Return the data set as data.loader says; streaming knows no other form than shards."""
        card = self.configured(config)
        if config.loader == "streaming":
            from sms_dist.data.streaming import open_streamed

            return open_streamed(card, config, info)
        from sms_dist.data.resident import open_resident

        train = self.samples(card, config, "train", info.num_train)
        test = self.samples(card, config, "test", info.num_test)
        return open_resident(card, train, test, config, info)


class CifarFiles(ImageFiles):
    """Reader `torchvision`: CIFAR in shards, or in the folder that torchvision unpacks."""

    def samples(
        self, card: Card, config: DataConfig, split: SplitName, count: int
    ) -> Iterator[Decoded]:
        """Yield the samples of whichever form the folder has."""
        folder = index.folder_of(card, config)
        if not is_torchvision(card, folder):
            return super().samples(card, config, split, count)
        stored = from_torchvision(card, folder, split)
        return islice(stored, count) if split == "train" and config.train_samples else stored


class AttributeFiles(ImageFiles):
    """Reader `attributes`: shards whose samples have attributes, of which two are chosen."""

    def configured(self, config: DataConfig) -> Card:
        """Return the card with data.size, data.target and data.subgroup."""
        attributes = {name: name for name in self.card.attributes}
        target = config.target or self.card.target.removeprefix("json:")
        subgroup = config.subgroup or (self.card.subgroup or "").removeprefix("json:")
        lookup(attributes, target, "data.target")
        lookup(attributes, subgroup, "data.subgroup")
        if target == subgroup:
            raise ValueError(
                f"data.subgroup={subgroup} is data.target as well; choose another attribute for one"
            )
        changes = {
            "target": f"json:{target}",
            "classes": (f"not-{target}", target),
            "subgroup": f"json:{subgroup}",
            "subgroup_names": (f"not-{subgroup}", subgroup),
        }
        return sized(self.card.model_copy(update=changes), config)


def sized(card: Card, config: DataConfig) -> Card:
    """Return the card with data.size, to which images are then scaled."""
    if config.size is None or config.size == card.size:
        return card
    height, width = config.size
    if height * width > MAX_PIXELS:
        raise ValueError(f"data.size={[height, width]} is more than {MAX_PIXELS} pixels; lower it")
    how = "scale" if card.fit == "exact" else card.fit
    return card.model_copy(update={"size": config.size, "fit": how})


def is_torchvision(card: Card, folder: Path) -> bool:
    """Return whether the folder is the one that torchvision unpacks, or holds it."""
    name = _unpacked(card)
    return folder.name == name or (folder / name).is_dir()


def from_torchvision(card: Card, folder: Path, split: SplitName) -> Iterator[Decoded]:
    """Yield what torchvision reads.

    It compares checksums before it opens the files, which could run code.
    """
    from sms_dist.base.vision import torchvision
    from sms_dist.data.decode import Decoded

    name, datasets = _unpacked(card), torchvision().datasets
    makers = {make.base_folder: make for make in (datasets.CIFAR10, datasets.CIFAR100)}
    make = lookup(makers, name, f"the card of {card.name}: download.folder")
    root = folder.parent if folder.name == name else folder
    try:
        stored = make(str(root), train=split == "train", download=False)
    except RuntimeError as error:
        raise ValueError(
            f"data.path={root}: {name} is incomplete or damaged ({error}); unpack it again"
        ) from None
    for image, label in zip(stored.data, stored.targets, strict=True):
        yield Decoded(image.transpose(2, 0, 1), int(label))


def _unpacked(card: Card) -> str:
    if card.download is None or card.download.folder is None:
        raise ValueError(f"the card of {card.name} needs download.folder for reader=torchvision")
    return card.download.folder
