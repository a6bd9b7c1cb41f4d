"""Files and folders appear whole or not at all, and stay after a power cut."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, in_folder: bool = False, swaps: bool = False) -> Iterator[Path]:
    """Yield where to make the file or folder that replaces `path` when the block ends.

    A crash leaves the old or the new one, an error the old one. A folder replaces only an empty
    one, unless it `swaps`: then there is none between two renames. What a crash leaves behind is
    called `.<name>.<random>.<pid>.tmp`; `in_folder`: that is a folder around the new file, for
    libraries that make files of their own beside it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp")
    new = temporary / path.name if in_folder else temporary
    try:
        if in_folder:
            temporary.mkdir()
        yield new
        for each in (new, *new.rglob("*")):
            sync(each)
        if swaps and path.is_dir():
            old = temporary.with_name(f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp")
            os.replace(path, old)
            os.replace(new, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(new, path)
    finally:  # after an error it would eat the space that is left
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink()
    sync(path.parent)


def write(path: Path, content: bytes) -> None:
    """Make or replace a file."""
    with replacing(path) as new:
        new.write_bytes(content)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing, and wait until the disk has them."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync(each.parent)


def sync(path: Path) -> None:
    """Wait until the disk has a file's bytes, or a folder's names: a rename lasts only then."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # one may write into a folder that one may not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
