"""index.json beside the shards: which samples a folder holds, known without opening a shard.

A shard is named by its file in the folder, or, for reading from elsewhere, by a URL or by a `pipe:`
command.
"""

from __future__ import annotations

import dataclasses
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationError

from sms_dist.base import plain
from sms_dist.config import DataConfig
from sms_dist.config.section import Section
from sms_dist.data.card import Card, SplitName
from sms_dist.data.dataset import DatasetInfo

FILE = "index.json"
ENDINGS = (".tar", ".tar.gz")
MAX_BYTES = 1 << 23  # 50,000 shards
MAX_SAMPLES = 1 << 32  # of a shard
SCHEMES = ("http", "https", "gs")
PIPE = "pipe:"
# What systems, editors and tools leave beside files: nothing of it is a sample.
_HIDDEN = re.compile(
    r"\..+|thumbs\.db|desktop\.ini|icon\r|__macosx|@eadir|#recycle|\$recycle\.bin|lost\+found"
    r"|system volume information|paxheaders?(\..*)?",
    re.IGNORECASE,
)
T = TypeVar("T", bound=Section)


class ShardFacts(Section):
    """One shard."""

    file: str = Field(pattern=r"^(\w[\w.+-]*|[a-z0-9]+://.+|pipe:.+)$")
    """its name in the folder itself, or a URL, or a `pipe:` command"""
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
        """Return the shards of a split in their order."""
        return self.splits.train if split == "train" else self.splits.test

    def num_samples(self, split: SplitName) -> int:
        """Return the number of samples of a split."""
        return sum(shard.samples for shard in self.shards(split))


class _AnyIndex(Section):
    """The name in an index of any kind."""

    model_config = ConfigDict(extra="ignore")

    name: str


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
    known = read_as(_AnyIndex, folder)
    return known.name if known else None


def facts(card: Card, folder: Path) -> DatasetInfo:
    """Return the facts of the card with the counts of the folder's index, if there is one.

    The names of classes come from there too, where the card has none.
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


def shards(card: Card, folder: Path, split: SplitName) -> list[tuple[str, ShardFacts | None]]:
    """Return the names of a split's shards in their order, with what the index says of each.

    Without an index they are the files that match the card's patterns. ValueError for none, and
    for one that matches those of both splits.
    """
    known = read(folder)
    if known is not None and known.shards(split):
        return [(shard.file, shard) for shard in known.shards(split)]
    patterns, others = card.shards.train, card.shards.test
    if split == "test":
        patterns, others = others, patterns
    names = files(folder)
    matching = [name for pattern in patterns for name in names if fnmatchcase(name, pattern)]
    for name in matching:
        if any(fnmatchcase(name, pattern) for pattern in others):
            raise ValueError(
                f"{folder / name} is a shard of train and of test by its name; write patterns in"
                " `shards` of the card that tell them apart"
            )
    if known is not None or not matching:
        wanted = " or ".join(f"{pattern}{end}" for pattern in patterns for end in ENDINGS)
        raise ValueError(
            f"data.path={folder} holds no {wanted}; set data.path to the folder of {card.name}"
        )
    return [(name, None) for name in dict.fromkeys(matching)]


def files(folder: Path) -> list[str]:
    """Return the names of all shards that lie in the folder, sorted."""
    names = sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))
    return [name for name in names if name.endswith(ENDINGS) and not is_remote(name)]


def is_hidden(path: str) -> bool:
    """Return whether a file, or a folder on its path, is one that systems and tools leave."""
    return any(_HIDDEN.fullmatch(part) for part in path.split("/") if part != "..")


def is_remote(shard: str) -> bool:
    """Return whether the name of a shard is a URL or a `pipe:` command."""
    return "://" in shard or shard.startswith(PIPE)


def check_remote(shard: str, is_allowed: bool) -> None:
    """Raise a ValueError unless a remote shard may be opened, and can be."""
    if not is_allowed:
        runs = "a command that runs in a shell" if shard.startswith(PIPE) else "on another host"
        raise ValueError(
            f"{shown(shard)} is {runs}; if you trust who wrote it, set data.remote=true"
        )
    scheme = shard.partition(":")[0]
    if scheme not in (*SCHEMES, "pipe"):
        raise ValueError(
            f"{shown(shard)} begins with {scheme}:, which is not known; valid values:"
            f" {', '.join(SCHEMES)} and pipe, e.g. pipe:aws s3 cp s3://bucket/shard.tar -"
        )


def shown(shard: str) -> str:
    """Return the name of a remote shard without passwords and signatures, for messages."""
    if shard.startswith(PIPE):
        return f"{PIPE}{shard.removeprefix(PIPE).partition(' ')[0]} ..."
    url = urlsplit(shard)
    return f"{url.scheme}://{url.hostname}{url.path}"


def _check(index: Index, card: Card, folder: Path) -> None:
    """Raise a ValueError unless the index is that of the card's data set."""
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
