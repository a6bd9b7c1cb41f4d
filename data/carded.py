"""Opens the data sets that cards describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from data import index
from data.card import MAX_PIXELS, Card, SplitName
from data.dataset import Dataset, DatasetInfo, Source
from sms_dist.config import DataConfig

if TYPE_CHECKING:
    from data.decode import Decoded
    from data.resident import Images

CardOf: TypeAlias = Callable[[DataConfig], Card]
# (card, folder, split) -> (where it lies, sample), in stored order
Reader: TypeAlias = "Callable[[Card, Path, SplitName], Iterator[tuple[str, Decoded]]]"


@dataclass(frozen=True)
class CardSource(Source):
    """A data set of images by name; `card` is what the configuration makes of its card."""

    card: CardOf
    is_chosen: bool = False  # the classes depend on data.target

    def described(self, config: DataConfig) -> DatasetInfo:
        return self.card(config).info

    def facts(self, config: DataConfig) -> DatasetInfo:
        return facts(self.card(config), config)


def source(card: Card, read: Reader | None = None) -> CardSource:
    """Of a card that only data.size changes; `read` is for further forms than shards."""
    card_of = partial(plain_card, card)
    return CardSource(card.info, partial(opened, card_of, read or samples), False, card_of)


def plain_card(card: Card, config: DataConfig) -> Card:
    """The card with data.size; data.target and data.subgroup are refused."""
    for key, value in (("target", config.target), ("subgroup", config.subgroup)):
        if value is not None:
            raise ValueError(
                f"data.{key}={value} chooses an attribute of data.name=celeba, and"
                f" data.name={config.name} has none; leave it out"
            )
    return sized(card, config)


def sized(card: Card, config: DataConfig) -> Card:
    """The card with data.size, to which images are then scaled."""
    if config.size is None or config.size == card.size:
        return card
    height, width = config.size
    if height * width > MAX_PIXELS:
        raise ValueError(f"data.size={[height, width]} is more than {MAX_PIXELS} pixels; lower it")
    how = "scale" if card.fit == "exact" else card.fit
    return card.model_copy(update={"size": config.size, "fit": how})


def facts(card: Card, config: DataConfig) -> DatasetInfo:
    """Of all that the card, or the index of the folder, says is stored."""
    found = card.info if config.path is None else index.facts(card, Path(config.path))
    if found.num_train == 0 or found.num_test == 0:
        raise ValueError(
            f"{config.path} has no {index.FILE}, and its card no numbers of samples;"
            f" write the first with `sms-dist data index {config.path}`"
        )
    return found


def folder_of(card: Card, config: DataConfig) -> Path:
    """data.path; ValueError unless it is a folder."""
    if config.path is None:
        raise ValueError(f"data.name={card.name} needs data.path: a folder of shards")
    folder = Path(config.path)
    if not folder.is_dir():
        raise ValueError(
            f"data.path={folder} is no folder; set it to the one that holds {card.name}"
        )
    return folder


def samples(card: Card, folder: Path, split: SplitName) -> Iterator[tuple[str, Decoded]]:
    """(where it lies, sample) of each sample of a split, in stored order and size."""
    from data import shards
    from data.decode import decode

    for path, (key, fields) in shards.read_all(wanted_shards(card, folder, split)):
        place = f"{path}: sample {key}"
        yield place, decode(card, fields, place)


def wanted_shards(card: Card, folder: Path, split: SplitName) -> list[index.Shard]:
    """The files of a split; ValueError where there are none."""
    files = index.shards(card, folder, split)
    if not files:
        patterns = card.shards.train if split == "train" else card.shards.test
        wanted = " or ".join(f"{pattern}{end}" for pattern in patterns for end in index.ENDINGS)
        raise ValueError(
            f"data.path={folder} holds no {wanted}; set data.path to the folder of {card.name}"
        )
    return files


def opened(card_of: CardOf, read: Reader, config: DataConfig, info: DatasetInfo) -> Dataset:
    """The data set as data.loader says; streaming knows no other form than shards."""
    card = card_of(config)
    if config.loader == "streaming":
        from data.streaming.streamed import open_streamed

        return open_streamed(card, config, info)
    return _resident(card, read, config, info)


def _resident(card: Card, read: Reader, config: DataConfig, info: DatasetInfo) -> Images:
    """In memory; the samples are read in stored order, no more than are wanted."""
    from data.augment import for_resident
    from data.gather import gather
    from data.resident import in_memory

    folder = folder_of(card, config)
    train = read(card, folder, "train")
    if config.train_samples:
        train = islice(train, info.num_train)  # later shards are not opened
    splits = (
        gather(train, info.num_train, card, f"data.path={folder}: train"),
        gather(read(card, folder, "test"), info.num_test, card, f"data.path={folder}: test"),
    )
    return in_memory(*splits, info, config, card.mean, card.std, for_resident(card))
