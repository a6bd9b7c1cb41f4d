"""index.json beside the shards: which samples a folder holds, known without opening a shard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from data.dataset import DatasetInfo
from sms_dist.config import Section

FILE = "index.json"


class ShardFacts(Section):
    """One shard. The name is that of a file in the folder itself."""

    file: str = Field(pattern=r"^\w[\w.+-]*$")
    samples: Annotated[int, Field(ge=1)]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Splits(Section):
    train: list[ShardFacts]
    test: list[ShardFacts]


class Index(Section):
    name: str
    classes: list[str]
    splits: Splits

    def shards(self, split: Literal["train", "test"]) -> list[ShardFacts]:
        return self.splits.train if split == "train" else self.splits.test

    def num_samples(self, split: Literal["train", "test"]) -> int:
        return sum(shard.samples for shard in self.shards(split))


def read(folder: Path) -> Index | None:
    """The folder's index; None where there is none."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Index.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ValueError(
            f"{path}: {place}: {first['msg']};"
            " write it anew with `sms-dist data prepare`, or remove it"
        ) from None


def facts(info: DatasetInfo, folder: Path) -> DatasetInfo:
    """`info` with the counts and classes of the folder's index, if there is one."""
    index = read(folder)
    if index is None:
        return info
    if index.name != info.name:
        raise ValueError(
            f"data.name={info.name}, but {folder / FILE} says that the folder holds {index.name};"
            f" set data.name={index.name} or another data.path"
        )
    return dataclasses.replace(
        info,
        num_train=index.num_samples("train"),
        num_test=index.num_samples("test"),
        classes=tuple(index.classes),
    )
