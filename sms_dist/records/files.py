"""A text file is there whole or not at all, and its JSON is JSON that every reader accepts."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def finite(value: Any) -> Any:
    """The value with every NaN and infinity in it replaced by None: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def json_text(value: Any) -> str:
    """Indented JSON ending in a newline; non-finite numbers become null."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Make or replace a file; a crash leaves the old text or the new one."""
    write_atomic(path, text.encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Make or replace a file; a crash leaves the old bytes or the new ones."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    write_bytes(temporary, content)
    os.replace(temporary, path)
    sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it (not atomic: for files with a temporary name)."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Wait until the disk has the folder's list of names; a rename is not lasting before that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
