"""A text file is there whole or not at all, and its JSON is JSON that every reader accepts."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sms_dist.file_pieces import Content, Written, write
from sms_dist.records.disk_errors import telling


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


def write_text(path: Path, text: str) -> None:
    """Make or replace a file; a crash leaves the old text or the new one. ValueError for people."""
    with telling(path):
        write_atomic(path, [text.encode()])


def write_atomic(path: Path, content: Content) -> Written:
    """Make or replace a file; a crash leaves the old bytes or the new ones, an error the old."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        written = write(temporary, content)
        os.replace(temporary, path)
    except (OSError, ValueError):
        with suppress(OSError):  # what was written would eat the space that is left
            temporary.unlink()
        raise
    sync(path.parent)
    return written


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing, and wait until the disk has them."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync(each.parent)


def sync(folder: Path) -> None:
    """Wait until the disk has the folder's list of names; a rename is not lasting before that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # one may write into a folder that one may not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)
