"""index.json beside parallel text: how many pairs its files hold, known without reading them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from data.index import FILE, MAX_BYTES
from data.texts.files import Languages
from sms_dist import plain
from sms_dist.config_section import Pair, Section

AGAIN = "write it anew with `sms-dist data prepare`, or remove it"
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
    """The folder's index; None where there is none."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return TextIndex.model_validate_json(plain.read(path, MAX_BYTES, "an index"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ValueError(f"{path}: {place}: {first['msg']}; {AGAIN}") from None


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
