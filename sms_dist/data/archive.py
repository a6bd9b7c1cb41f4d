"""Where each sample lies in a tar file, so that any of them can be read without the ones before."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sms_dist.data.decode import AGAIN
from sms_dist.data.members import MemberError, PlainInfo, check_member

BLOCK = 512  # a header, and what contents are padded to
_NAME = re.compile(r"((?:.*/|)[^./][^.]*)\.([^/]+)")  # key and extension; hidden files have no key
_META = re.compile(r"__[^/]*__($|/)")  # WebDataset's notes about the shard


class DamagedError(ValueError):
    """Apart from the ValueErrors that tarfile raises."""


class Place(NamedTuple):
    """Bytes of a file."""

    offset: int
    size: int


class Entry(NamedTuple):
    """One sample: consecutive members whose names differ after the first dot."""

    key: str
    files: dict[str, Place]  # by extension, in small letters


def scan(path: Path) -> list[Entry]:
    """The samples of a plain tar file in stored order; only the headers are read.

    ValueError names the file and its fault: not a tar file, cut off, members that are no plain
    files or point out of it, a name that occurs twice.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; {AGAIN}")
    try:
        with (
            path.open("rb") as file,
            tarfile.open(fileobj=file, mode="r:", tarinfo=PlainInfo) as tar,
        ):
            entries = _grouped(_members(path, tar), path)
            _check_end(path, file, tar.offset)
    except (MemberError, DamagedError):
        raise
    except RecursionError:
        raise _damaged(path, "notes about notes, without an end") from None
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        raise _damaged(path, str(error)) from None  # sizes and numbers that make no sense
    return entries


def read(file: int, place: Place) -> bytes:
    """The bytes at a place of an open file (a descriptor, whose position does not move)."""
    data = os.pread(file, place.size, place.offset)
    if len(data) != place.size:
        raise EOFError(f"it ends at byte {place.offset + len(data)}")
    return data


def _members(path: Path, tar: tarfile.TarFile) -> Iterator[tuple[str, Place]]:
    end = path.stat().st_size
    for member in tar:
        check_member(member, str(path))
        if member.offset_data + member.size > end:
            raise _damaged(path, f"it ends inside {member.name!r}")
        if member.isfile() and not _META.match(member.name):
            yield member.name, Place(member.offset_data, member.size)
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all


def _grouped(members: Iterator[tuple[str, Place]], path: Path) -> list[Entry]:
    entries: list[Entry] = []
    for name, place in members:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        key, extension = match.group(1), match.group(2).lower()
        if not entries or entries[-1].key != key:
            entries.append(Entry(key, {}))
        if extension in entries[-1].files:
            raise _damaged(path, f"{name!r} is in it twice")
        entries[-1].files[extension] = place
    return entries


def _check_end(path: Path, file: BinaryIO, end: int) -> None:
    """tarfile takes a missing end, or a damaged header after the first, for the end."""
    file.seek(end)
    rest = file.read(BLOCK)
    if len(rest) < BLOCK:
        raise _damaged(path, "its end is missing")
    while rest:
        if rest.strip(b"\0"):
            raise _damaged(path, f"there is no header at byte {end}")
        rest = file.read(1 << 20)


def _damaged(path: Path, fault: str) -> DamagedError:
    return DamagedError(f"{path} is no complete tar file ({fault}); {AGAIN}")
