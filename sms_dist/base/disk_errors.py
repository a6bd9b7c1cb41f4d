"""What an error of the disk means, and what to do about it: one line for people."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
        problem, help_ = MEANINGS.get(error.errno or 0, (error.strerror or str(error), ""))
        raise ValueError(
            f"the run folder {root} cannot be used: {problem.format(free=_free(root))}; "
            f"{help_ and help_ + ', or '}name another with --run-dir"
        ) from error


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Turn an OSError of writing `path` into a ValueError for people."""
    try:
        yield
    except OSError as error:
        raise told(error, path) from error


def told(error: OSError, path: Path) -> ValueError:
    """What to say when `path` could not be written."""
    problem, help_ = MEANINGS.get(error.errno or 0, (error.strerror or str(error), "mend that"))
    way_out = f"{help_}, then give the same command again; the last good state is untouched"
    if error.errno in GONE:
        missing = _first_missing(path)
        problem = f"{missing} is gone" if missing else (error.strerror or str(error))
        way_out = "if it was removed by mistake put it back, then give the same command again"
    return ValueError(f"{path} could not be written: {problem.format(free=_free(path))}; {way_out}")


class Dispensable:
    """Writing that a run can do without: a failure is said once, until it works again."""

    def __init__(self) -> None:
        self._is_said = False

    @contextmanager
    def attempt(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._is_said:
                reason = error.strerror or error
                line = f"warning: {path} could not be written: {reason}; the run goes on without it"
                print(line, file=sys.stderr, flush=True)
            self._is_said = True
        else:
            self._is_said = False


def _first_missing(path: Path) -> Path | None:
    """The uppermost folder that is not there (None: all are)."""
    missing = [folder for folder in path.parents if not os.path.lexists(folder)]
    return missing[-1] if missing else None


def _free(path: Path) -> str:
    """How full the device is, in words; empty if nobody knows."""
    place = next((p for p in (path, *path.parents) if p.exists()), Path())
    with suppress(OSError):
        found = os.statvfs(place)
        if found.f_files and not found.f_favail:
            return f" (0 of {found.f_files} files may be added)"
        free, size = (blocks * found.f_frsize for blocks in (found.f_bavail, found.f_blocks))
        unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
        return f" ({free / unit:.1f} of {size / unit:.1f} {name} free)"
    return ""
