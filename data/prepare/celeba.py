"""CelebA as it is downloaded: img_align_celeba/ and the lists of attributes and of the division.

The lists may be the official .txt or Kaggle's .csv files. All 40 attributes are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.celeba import ATTRIBUTES
from data.prepare.layout import Prepared, first_of, image_field, key_of, shuffled
from data.shards import Sample

FOLDERS = (".", "Anno", "Eval", "Img", "celeba")
TEST = 2  # in the list of the division: 0 train, 1 validation, 2 test


def read(source: Path, name: str) -> Prepared:
    """Training and validation images together; `data.validation` divides them."""
    images = first_of(source, [f"{f}/img_align_celeba" for f in FOLDERS], "img_align_celeba/")
    nested = images / "img_align_celeba"
    images = nested if nested.is_dir() else images
    attributes, rows = _table(source, "list_attr_celeba")
    if tuple(attributes) != ATTRIBUTES:
        raise ValueError(f"--from {source}: list_attr_celeba does not have the 40 attributes")
    _, parts = _table(source, "list_eval_partition")
    if rows.keys() != parts.keys():
        raise ValueError(
            f"--from {source}: list_attr_celeba names {len(rows)} images, list_eval_partition"
            f" {len(parts)}, and not the same ones; download both again"
        )
    train = shuffled([file for file in rows if parts[file] != [TEST]], name)
    test = [file for file in rows if parts[file] == [TEST]]
    return Prepared(name, (), _samples(images, train, rows), _samples(images, test, rows))


def _samples(images: Path, files: Sequence[str], rows: dict[str, list[int]]) -> Iterator[Sample]:
    for file in files:
        path = images / Path(file).name
        values = {name: int(v > 0) for name, v in zip(ATTRIBUTES, rows[file], strict=True)}
        yield key_of(path), {**image_field(path), "json": json.dumps(values).encode()}


def _table(source: Path, name: str) -> tuple[list[str], dict[str, list[int]]]:
    """Column names, if there are any, and the numbers of each image."""
    names = [f"{folder}/{name}.{ending}" for ending in ("txt", "csv") for folder in FOLDERS]
    path = first_of(source, names, f"{name}.txt")
    lines = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
    header: list[str] = []
    rows: dict[str, list[int]] = {}
    for line in lines:
        if len(line) > 1 and line[0].lower().endswith(".jpg"):
            rows[line[0]] = _numbers(line[1:], path)
        elif len(line) > 1:  # a line of one word is the number of images
            header = [word for word in line if word != "image_id"]
    if not rows:
        raise ValueError(f"{path} names no images")
    return header, rows


def _numbers(words: Sequence[str], path: Path) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError:
        raise ValueError(f"{path}: {' '.join(words)[:60]!r} are no numbers") from None
