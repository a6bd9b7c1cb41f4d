"""Writes shards with their index.json, complete or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from webdataset.writer import TarWriter

from sms_dist.base import files
from sms_dist.data import index
from sms_dist.data.card import SplitName
from sms_dist.data.index import Index, ShardFacts, Splits
from sms_dist.data.shards import Sample

Progress = Callable[[str], None]


def write(
    target: Path,
    name: str,
    classes: Iterable[str],
    splits: Mapping[SplitName, Iterable[Sample]],
    samples_per_shard: int,
    progress: Progress,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write plain tar shards, index.json and `texts` (file -> content) into the folder `target`.

    It appears complete or not at all.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(target) as new:  # an empty folder, or what is not there
        new.mkdir()
        written: dict[str, list[ShardFacts]] = {}
        for split, samples in splits.items():
            shards = _shards(new, f"{name}-{split}", samples, samples_per_shard, progress)
            written[split] = list(shards)
        write_index(new, name, classes, Splits(**written))
        for file, text in (texts or {}).items():
            (new / file).write_text(text, encoding="utf-8")


def write_index(folder: Path, name: str, classes: Iterable[str], splits: Splits) -> None:
    """Write the index.json of shards that lie in the folder."""
    known = Index(name=name, classes=list(classes), splits=splits)
    files.write_bytes(folder / index.FILE, known.model_dump_json(indent=1).encode())


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image (C x h x w) or a mask (h x w) as PNG."""
    if pixels.ndim == 3:
        pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def labelled(samples: Iterable[tuple[str, NDArray[np.uint8], int]]) -> Iterator[Sample]:
    """Yield the fields of samples that are given as key, image (C x h x w) and class."""
    for key, image, label in samples:
        yield key, {"png": png(image), "cls": str(label).encode()}


def _shards(
    folder: Path, name: str, samples: Iterable[Sample], size: int, progress: Progress
) -> Iterator[ShardFacts]:
    rest = iter(samples)
    for number, first in enumerate(rest):
        path = folder / f"{name}-{number:06d}.tar"
        count = _write_shard(path, chain([first], islice(rest, size - 1)))
        yield ShardFacts(file=path.name, samples=count, sha256=files.sha256_of(path))
        progress(f"{path.name}: {count} samples")


def _write_shard(path: Path, samples: Iterable[Sample]) -> int:
    """Write a shard and return its number of samples; equal samples give equal bytes."""
    count = 0
    facts = {"user": "", "group": "", "mode": 0o644, "mtime": 0, "format": "PAX_FORMAT"}
    with (
        path.open("wb") as file,
        TarWriter(file, compress=False, encoder=False, keep_meta=True, **facts) as tar,
    ):
        for key, fields in samples:
            tar.write({"__key__": key, **fields})
            count += 1
    return count
