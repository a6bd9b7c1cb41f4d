"""Files written and read in pieces, each hashed while it is in the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PIECE = 1 << 20  # bytes
_BUFFER = 1 << 18  # bytes: files that are smaller are written at once
Content = Iterable[bytes | memoryview]  # of a file, in pieces


class Written(NamedTuple):
    """What a file holds."""

    sha256: str
    num_bytes: int


def write(path: Path, content: Content) -> Written:
    """Write a file, piece after piece, and wait until the disk has it.

    Not atomic: for files with a temporary name.
    """
    digest, num_bytes = hashlib.sha256(), 0
    with path.open("wb", buffering=_BUFFER) as file:
        for piece in content:
            digest.update(piece)
            num_bytes += file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return Written(digest.hexdigest(), num_bytes)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()
