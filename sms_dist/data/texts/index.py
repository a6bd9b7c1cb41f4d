"""index.json beside parallel text: how many pairs its files hold, known without reading them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from sms_dist.config.section import Pair, Section
from sms_dist.data.index import FILE, read_as
from sms_dist.data.texts.files import Languages

Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SplitFacts(Section):
    """Hashes by the name of the file, which lies in the folder itself."""

    pairs: Annotated[int, Field(ge=1)]
    sha256: dict[Name, Hash]


class Splits(Section):
    train: SplitFacts
    test: SplitFacts


class TextIndex(Section):
    name: str
    languages: Pair
    empty: Annotated[int, Field(ge=0)]
    """pairs that were left out because a side was empty"""
    splits: Splits


def read(folder: Path) -> TextIndex | None:
    """Return the folder's index; None where there is none."""
    return read_as(TextIndex, folder)


def check(stored: TextIndex, name: str, folder: Path, languages: Languages) -> None:
    """ValueError unless it is of this set and holds both languages."""
    if name not in (stored.name, "parallel"):
        raise ValueError(
            f"data.name={name}, but {folder / FILE} says that the folder holds {stored.name};"
            f" set data.name={stored.name} or another data.path"
        )
    if set(languages) != set(stored.languages):
        raise ValueError(
            f"data.languages={list(languages)}, but {folder / FILE} says that the folder holds"
            f" {' and '.join(stored.languages)}"
        )
