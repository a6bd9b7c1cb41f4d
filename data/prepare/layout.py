"""What all layouts of downloaded data sets have in common: lists of image files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from data.shards import Sample

IMAGES = (".jpg", ".jpeg", ".png")
MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png"}
T = TypeVar("T")


class Prepared(NamedTuple):
    """What is to be written. Samples are read as they are written, one at a time."""

    name: str
    classes: tuple[str, ...]  # none where they depend on the configuration
    train: Iterable[Sample]
    test: Iterable[Sample]
    texts: Mapping[str, str] = {}  # further files


@dataclass(frozen=True)
class Layout:
    """`read(source, name)` lists what lies in a downloaded folder."""

    read: Callable[[Path, str], Prepared]
    samples_per_shard: int  # unless said otherwise


def first_of(source: Path, names: Sequence[str], what: str) -> Path:
    """The first of `names` below `source` that is there; `what` says what is not, if none is."""
    for name in names:
        if (source / name).exists():
            return source / name
    raise ValueError(f"--from {source} has no {what}")


def images_in(folder: Path) -> list[Path]:
    """Image files in the order of their names; ValueError where there are none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(IMAGES)})")
    return files


def image_field(path: Path) -> dict[str, bytes]:
    """Its bytes as they are, under the extension of what they are, whatever the name says."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    data = path.read_bytes()
    for magic, extension in MAGIC.items():
        if data.startswith(magic):
            return {extension: data}
    raise ValueError(f"{path} is no JPEG or PNG image; copy it again")


def key_of(path: Path) -> str:
    """Of a sample, out of the name of its file: dots would begin the extension."""
    return path.stem.replace(".", "_")


def shuffled(items: Sequence[T], purpose: str) -> list[T]:
    """In an order that is the same every time, so that each shard holds some of everything."""
    from sms_dist.randomness import stream

    order = stream(0, f"order of shards {purpose}").permutation(len(items))
    return [items[i] for i in order.tolist()]
