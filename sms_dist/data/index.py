"""index.json beside the shards: which samples a folder holds, known without opening a shard."""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from sms_dist.base import plain
from sms_dist.config import DataConfig
from sms_dist.config.section import Section
from sms_dist.data import remote
from sms_dist.data.card import Card, SplitName
from sms_dist.data.dataset import DatasetInfo

FILE = "index.json"
ENDINGS = (".tar", ".tar.gz")
MAX_BYTES = 1 << 23  # 50,000 shards
MAX_SAMPLES = 1 << 32  # of a shard
T = TypeVar("T", bound=Section)


class ShardFacts(Section):
    """One shard: a file in the folder itself, or a URL or a `pipe:` command for streaming."""

    file: str = Field(pattern=r"^(\w[\w.+-]*|[a-z0-9]+://.+|pipe:.+)$")
    samples: Annotated[int, Field(ge=1, le=MAX_SAMPLES)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Splits(Section):
    train: list[ShardFacts]
    test: list[ShardFacts]


class Index(Section):
    name: str
    classes: list[str]
    """empty where they depend on the configuration"""
    splits: Splits

    def shards(self, split: SplitName) -> list[ShardFacts]:
        return self.splits.train if split == "train" else self.splits.test

    def num_samples(self, split: SplitName) -> int:
        return sum(shard.samples for shard in self.shards(split))


class _Named(Section):
    """Any index."""

    model_config = ConfigDict(extra="ignore")

    name: str


class Shard(NamedTuple):
    """A file, and how many samples it must have: None where there is no index."""

    path: Path
    num_samples: int | None


def read(folder: Path) -> Index | None:
    """Return the folder's index of shards; None where there is none."""
    return read_as(Index, folder)


def read_as(kind: type[T], folder: Path) -> T | None:
    """Return the folder's index.json as a model; None where there is none."""
    path = folder / FILE
    if not plain.is_file(path):
        return None
    try:
        return kind.model_validate_json(plain.read(path, MAX_BYTES, "an index"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ValueError(
            f"{path}: {place}: {first['msg']};"
            " write it anew with `sms-dist data prepare`, or remove it"
        ) from None


def name_of(folder: Path) -> str | None:
    """Return which data set the folder's index is of, whatever kind it is; None for no index."""
    known = read_as(_Named, folder)
    return known.name if known else None


def facts(card: Card, folder: Path) -> DatasetInfo:
    """The facts of the card with the counts of the folder's index, if there is one.

    So are the names of classes, where the card has none.
    """
    index = read(folder)
    if index is None:
        return card.info
    _check(index, card, folder)
    return dataclasses.replace(
        card.info,
        num_train=index.num_samples("train"),
        num_test=index.num_samples("test"),
        classes=tuple(index.classes) or card.class_names,
    )


def folder_of(card: Card, config: DataConfig) -> Path:
    """Return data.path; ValueError unless it is a folder."""
    if config.path is None:
        raise ValueError(f"data.name={card.name} needs data.path: a folder of shards")
    folder = Path(config.path)
    if not folder.is_dir():
        raise ValueError(
            f"data.path={folder} is no folder; set it to the one that holds {card.name}"
        )
    return folder


def shards(card: Card, folder: Path, split: SplitName) -> list[Shard]:
    """Return the files of a split in their order: those of the index, or of the card's patterns.

    ValueError where there are none.
    """
    known = read(folder)
    if known is not None:
        files = [Shard(_local(shard.file, folder), shard.samples) for shard in known.shards(split)]
    else:
        files = [Shard(path, None) for path in _matching(card, folder, split)]
    if not files:
        wanted = " or ".join(
            f"{pattern}{end}" for pattern in _patterns(card, split) for end in ENDINGS
        )
        raise ValueError(
            f"data.path={folder} holds no {wanted}; set data.path to the folder of {card.name}"
        )
    return files


def _patterns(card: Card, split: SplitName) -> tuple[str, ...]:
    return card.shards.train if split == "train" else card.shards.test


def _matching(card: Card, folder: Path, split: SplitName) -> list[Path]:
    """The files of each pattern in turn, in the order of their names, each once."""
    files: dict[Path, None] = {}
    for pattern in _patterns(card, split):
        matching = [path for path in folder.iterdir() if fnmatchcase(path.name, pattern)]
        files |= dict.fromkeys(path for path in sorted(matching) if path.name.endswith(ENDINGS))
    return list(files)


def _local(file: str, folder: Path) -> Path:
    if remote.is_remote(file):
        raise ValueError(
            f"{folder / FILE} names {remote.shown(file)}, which is not in the folder; to read it"
            " from there set data.loader=streaming and data.remote=true"
        )
    return folder / file


def _check(index: Index, card: Card, folder: Path) -> None:
    """The index is that of the card's data set."""
    place = f"{folder / FILE} says that the folder holds"
    if index.name != card.name:
        raise ValueError(
            f"data.name={card.name}, but {place} {index.name};"
            f" set data.name={index.name} or another data.path"
        )
    if not index.classes:
        return
    if len(index.classes) != card.num_classes:
        raise ValueError(
            f"{card.name} has {card.num_classes} classes, but {place} {len(index.classes)};"
            " correct the card, or write the shards again"
        )
    if not isinstance(card.classes, int):
        for number, pair in enumerate(zip(index.classes, card.classes, strict=True)):
            if len(set(pair)) > 1:
                raise ValueError(
                    f"class {number} of {card.name} is {pair[1]}, but {place} {pair[0]} in its"
                    " place; correct the card, or write the shards again"
                )
