"""Local copies of shards that are compressed or far away, made once for all ranks and runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tempfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from filelock import FileLock

from sms_dist.base.files import replacing
from sms_dist.data import remote
from sms_dist.data.decode import AGAIN

FOLDER = ".cache"
BLOCK = 1 << 20
GZIP = b"\x1f\x8b"
Fill = Callable[[BinaryIO], None]


class _Source(NamedTuple):
    place: str  # for messages
    name: str  # of a file
    identity: str
    opened: Callable[[], BinaryIO | io.FileIO]


def cache_folder(beside: Path, configured: str | None) -> Path | None:
    """The folder of local copies; None if it is not configured and its place is not writable."""
    folder = Path(configured) if configured else beside / FOLDER
    if _is_writable(folder):
        return folder
    if configured:
        raise ValueError(f"data.cache={configured} cannot be written to; name another folder")
    return None


def local(
    shard: str, folder: Path, cache: Path | None, is_remote_allowed: bool, sha256: str | None = None
) -> Path:
    """A plain tar file with the contents of a shard: itself, or a copy that is made if needed.

    `shard` is a file in `folder`, a URL or a `pipe:` command. Any number of processes and hosts may
    call at once: one of them makes the copy. What is copied is compared with `sha256`, if given.
    """
    if remote.is_remote(shard):
        remote.check(shard, is_remote_allowed)
        source = _Source(
            remote.shown(shard), remote.file_name(shard), shard, partial(remote.opened, shard)
        )
    else:
        path = folder / shard
        if not path.is_file():
            raise ValueError(f"{path}: there is no such file; {AGAIN}")
        if path.suffix != ".gz":
            return path
        source = _Source(str(path), path.name, file_identity(path), partial(io.FileIO, path))
    if cache is None:
        raise ValueError(
            f"{source.place} needs an unpacked copy, but {folder} cannot be written to;"
            " set data.cache to a folder for it"
        )
    name = cached_name(source.name.removesuffix(".gz"), f"{source.identity}|{sha256}")
    return once(cache / name, partial(_copy, source, sha256))


def file_identity(path: Path) -> str:
    """Changes when the file does."""
    facts = path.stat()
    return f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"


def cached_name(name: str, identity: str) -> str:
    """`train-0.tar` -> `train-0-0123456789abcdef.tar`"""
    stem, dot, ending = name.rpartition(".")
    digest = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    return f"{(stem if dot else ending)[:100]}-{digest}{dot}{ending if dot else ''}"


def once(target: Path, fill: Fill) -> Path:
    """The file, written by `fill` if it does not exist; it appears complete or not at all."""
    if target.exists():
        return target
    with FileLock(target.parent / f".{target.name}.lock"):
        if not target.exists():  # else another process made it meanwhile
            for leftover in target.parent.glob(f".{target.name}.*.tmp"):
                leftover.unlink()  # of a process that died: whoever writes holds the lock
            write(target, fill)
    return target


def write(target: Path, fill: Fill) -> None:
    """The file appears complete or not at all, also when several processes write it."""
    with replacing(target) as new, new.open("wb") as file:
        fill(file)


def _copy(source: _Source, sha256: str | None, target: BinaryIO) -> None:
    """Unpacked if it is a gzip file, whatever its name; ValueError if it is cut off or differs."""
    try:
        with source.opened() as file:
            summed = _Summed(file)
            stream = io.BufferedReader(summed, BLOCK)
            is_packed = stream.peek(2)[:2] == GZIP
            plain = gzip.GzipFile(fileobj=stream) if is_packed else stream
            shutil.copyfileobj(plain, target, BLOCK)
            while stream.read(BLOCK):  # what lies behind the end of the compressed data
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{source.place} is damaged ({error}); {AGAIN}") from None
    except OSError as error:
        parts = [str(part) for part in (error.strerror, error.filename) if part]
        reason = ": ".join(parts) or "the transfer failed"
        raise ValueError(f"{source.place} cannot be copied ({reason})") from None
    if sha256 is not None and summed.digest.hexdigest() != sha256:
        raise ValueError(f"{source.place} differs from what was written (sha256); {AGAIN}")


class _Summed(io.RawIOBase):
    """A stream that knows the sha256 of what was read."""

    def __init__(self, file: BinaryIO | io.FileIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self.digest.update(data)
        buffer[: len(data)] = data
        return len(data)


def _is_writable(folder: Path) -> bool:
    """Tried out: permissions say little on network file systems, and to root."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
