"""Files and folders that appear whole or not at all; errors of the disk as lines for people."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path, *, in_folder: bool = False, swaps: bool = False) -> Iterator[Path]:
    """Yield where to make the file or folder that replaces `path` when the block ends.

    A crash leaves the old or the new one, an error the old one. A folder replaces only an empty
    one, unless it `swaps`: then there is none between two renames. A crash may leave remains that
    are called `.<name>.<random>.<pid>.tmp`; `in_folder`: that is a folder around the new file, for
    libraries that make files of their own beside it.
    """
    temporary = _temporary(path)
    new = temporary / path.name if in_folder else temporary
    try:
        if in_folder:
            temporary.mkdir()
        yield new
        for each in (new, *new.rglob("*")):
            sync(each)
        if swaps and path.is_dir():
            old = _temporary(path)
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


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{os.getpid()}.tmp")


def write_bytes(path: Path, content: bytes) -> None:
    """Make or replace a file; a crash leaves the old content or the new one. OSError."""
    with replacing(path) as new:
        new.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Make or replace a text file as `write_bytes` does; ValueError, one line for people."""
    with telling(path):
        write_bytes(path, text.encode())


def json_text(value: Any) -> str:
    """Return indented JSON that ends in a newline; non-finite numbers become null."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """Return the value with None for every NaN and infinity in it: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, and wait until the disk has them."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync(each.parent)


def sync(path: Path) -> None:
    """Wait until the disk has a file's bytes, or a folder's names: only then a rename lasts."""
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


def entries(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the paths in a folder whose names match, sorted; none where the folder is missing.

    Other hosts may add and remove files meanwhile: `Path.glob` would raise FileNotFoundError where
    a folder goes while it is listed. OSError where the folder exists and cannot be listed.
    """
    try:
        names = os.listdir(folder)
    except OSError as error:
        if error.errno in (*GONE, errno.ESTALE):  # ESTALE: NFS, another host removed it
            return []
        raise
    return [folder / name for name in sorted(names) if fnmatchcase(name, pattern)]


# errno -> what happened; what helps.
MEANINGS = {
    errno.ENOSPC: ("no space left on its device{free}", "free some"),
    errno.EDQUOT: ("the disk quota is used up", "free some or have it raised"),
    errno.EFBIG: ("it would be larger than a file may be", "raise the limit (ulimit -f)"),
    errno.EIO: ("the disk failed (input/output error)", "have it looked at"),
    errno.EROFS: ("its file system is read-only", "have it made writable"),
    errno.EACCES: ("permission denied", "get the right to write there"),
    errno.EPERM: ("that is not permitted", "get the right to write there"),
    errno.ESTALE: ("the file server does not know it any more", "mount it again"),
}
GONE = (errno.ENOENT, errno.ENOTDIR)


@contextmanager
def entering(root: Path) -> Iterator[None]:
    """Turn an OSError of entering the run folder into a ValueError for people."""
    try:
        yield
    except OSError as error:
        problem, help_ = _meaning(error, root, "")
        raise ValueError(
            f"the run folder {root} cannot be used: {problem}; "
            f"{help_ and help_ + ', or '}name another with --run-dir"
        ) from error


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn an OSError of writing `path` into a ValueError for people."""
    try:
        yield
    except OSError as error:
        raise write_error(error, path) from error


def write_error(error: OSError, path: Path) -> ValueError:
    """Return the error for people when `path` could not be written: what is wrong, what to do."""
    problem, help_ = _meaning(error, path, "mend that")
    way_out = f"{help_}, then give the same command again; the last good state is untouched"
    if error.errno in GONE:
        missing = [folder for folder in path.parents if not os.path.lexists(folder)]
        problem = f"{missing[-1]} is gone" if missing else problem
        way_out = "if it was removed by mistake put it back, then give the same command again"
    return ValueError(f"{path} could not be written: {problem}; {way_out}")


class Dispensable:
    """Writing that a run can do without: a failure is reported once, until it works again."""

    def __init__(self) -> None:
        self._is_reported = False

    @contextmanager
    def attempt(self, path: Path) -> Iterator[None]:
        """Turn an OSError of the block into a warning on standard error."""
        try:
            yield
        except OSError as error:
            if not self._is_reported:
                reason = error.strerror or error
                line = f"warning: {path} could not be written: {reason}; the run goes on without it"
                print(line, file=sys.stderr, flush=True)
            self._is_reported = True
        else:
            self._is_reported = False


def _meaning(error: OSError, path: Path, help_: str) -> tuple[str, str]:
    """Return what happened and what helps, `help_` where that is not known."""
    problem, help_ = MEANINGS.get(error.errno or 0, (error.strerror or str(error), help_))
    return problem.format(free=_free(path)), help_


def _free(path: Path) -> str:
    """Return how full the device is, in words; nothing where that is not known."""
    existing = next((p for p in (path, *path.parents) if p.exists()), Path())
    with suppress(OSError):
        device = os.statvfs(existing)
        if device.f_files and not device.f_favail:
            return f" (0 of {device.f_files} files may be added)"
        free, size = (blocks * device.f_frsize for blocks in (device.f_bavail, device.f_blocks))
        unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
        return f" ({free / unit:.1f} of {size / unit:.1f} {name} free)"
    return ""
