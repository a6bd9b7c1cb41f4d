"""Lists folders that others write to, and take away, at the same time."""

from __future__ import annotations

import errno
import os
from fnmatch import fnmatchcase
from pathlib import Path

_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)  # ESTALE: NFS, another host removed it


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """What is in it by names that match, sorted; nothing where it is no folder, or no more.

    `Path.glob` raises FileNotFoundError where a folder goes between its being found and listed.
    OSError where it is there and cannot be listed.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return []
        raise
    return [folder / name for name in sorted(names) if fnmatchcase(name, pattern)]
