"""Writes shards of PNG images with their index.json, complete or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.index import FILE
from data.shards import Sample


def write(
    target: Path,
    name: str,
    classes: Iterable[str],
    splits: Mapping[str, Iterable[Sample]],
    samples_per_shard: int,
    progress: Callable[[str], None],
) -> None:
    """PNG shards plus index.json in `target`, which appears complete or not at all."""
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    partial.mkdir(parents=True)
    try:
        written: dict[str, list[dict[str, Any]]] = {}
        for split, samples in splits.items():
            written[split] = []
            for shard in _chunks(samples, samples_per_shard):
                file = partial / f"{name}-{split}-{len(written[split]):06d}.tar"
                count = _write_shard(file, shard)
                facts = {"file": file.name, "samples": count, "sha256": sha256(file)}
                written[split].append(facts)
                progress(f"{file.name}: {count} samples")
        text = json.dumps({"name": name, "classes": list(classes), "splits": written}, indent=1)
        _sync(partial / FILE, text.encode())
        partial.rename(target)  # replaces an empty folder, fails on any other
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # it is gone after the rename


def sha256(path: Path) -> str:
    """Of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _chunks(samples: Iterable[Sample], size: int) -> Iterator[Iterator[Sample]]:
    iterator = iter(samples)
    for first in iterator:
        yield chain([first], islice(iterator, size - 1))


def _write_shard(path: Path, samples: Iterator[Sample]) -> int:
    """The number of samples written; equal samples give equal bytes (no times, no owners)."""
    count = 0
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for key, image, label in samples:
                _add(tar, f"{key}.png", _png(image))
                _add(tar, f"{key}.cls", str(label).encode())
                count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _sync(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
