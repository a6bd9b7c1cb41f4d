"""Where each sample lies in a tar file, so that any of them can be read without the ones before.

A shard may come from anybody, so nothing in it is believed: only plain files inside it are allowed,
of limited size, and whatever does not fit is an error that names the shard.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sms_dist.base.plain import shown
from sms_dist.data.index import is_hidden

AGAIN = "copy it again or write new shards with `sms-dist data prepare`"
BLOCK = 512  # bytes of a header; contents are padded to multiples of it
MAX_BYTES = 1 << 28  # of a file, and of all files of a sample: the largest image, uncompressed
MAX_NOTE = 2048  # bytes of what tar says about the next file, such as a long name
NOTES = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE)
KEY = "__key__"
# One row for each sample: its key, and for each extension offset and size; size -1: not there.
Positions: TypeAlias = NDArray[Any]
MAX_TABLE = 1 << 30  # bytes of the table of a shard
_NAME = re.compile(r"((?:.*/|)[^./][^./]*)\.([^/]+)")  # key and extension
_META = re.compile(r"__[^/]*__($|/)")  # WebDataset's notes about the shard


class ShardError(ValueError):
    """A shard that is damaged or has members that are not allowed.

    A class of its own, apart from the ValueErrors that tarfile raises.
    """


class Place(NamedTuple):
    """Bytes of a file."""

    offset: int
    size: int


class Entry(NamedTuple):
    """One sample: consecutive members whose names differ after the first dot."""

    key: str
    files: dict[str, Place]  # by extension, in small letters


def damaged(place: str | Path, fault: object) -> ShardError:
    """Return the error for a file that is not what was written."""
    return ShardError(f"{place} is damaged ({fault}); {AGAIN}")


def scan(path: Path, place: str | Path | None = None) -> list[Entry]:
    """Return the samples of a plain tar file in stored order; only the headers are read.

    ValueError names the file (or `place`) and its fault: not a tar file, cut off, members that are
    not plain files or point out of it, a name that occurs twice, a sample that is too large.
    """
    place = place or path
    if not path.is_file():
        raise ValueError(f"{place}: there is no such file; {AGAIN}")
    try:
        with (
            path.open("rb") as file,
            tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar,
        ):
            entries = _grouped(_members(tar, path.stat().st_size, place), place)
            _check_end(file, tar.offset, place)
    except ShardError:
        raise
    except RecursionError:
        raise damaged(place, "notes about notes, without an end") from None
    except (tarfile.TarError, ValueError, OverflowError, MemoryError) as error:
        raise damaged(place, error) from None  # sizes and numbers that make no sense
    return entries


def table(entries: list[Entry]) -> Positions:
    """Return the entries as an array: a million samples take 50 MB, which processes share."""
    keys = [entry.key.encode("utf-8", "surrogateescape") for entry in entries]
    extensions = sorted({extension for entry in entries for extension in entry.files})
    width = max(map(len, keys), default=1)
    fields = [(KEY, f"S{width}"), *((extension, "<i8", (2,)) for extension in extensions)]
    rows = np.zeros(len(entries), fields)
    rows[KEY] = keys
    for extension in extensions:
        rows[extension] = [entry.files.get(extension, (0, -1)) for entry in entries]
    return rows


def is_table(rows: Positions, num_bytes: int) -> bool:
    """Return whether an array has a table's fields and all its places lie in `num_bytes` bytes."""
    if rows.ndim != 1 or rows.dtype.names is None or rows.dtype.fields is None:
        return False
    kinds = {name: kind for name, (kind, *_) in rows.dtype.fields.items()}
    if KEY not in kinds or kinds.pop(KEY).kind != "S":
        return False
    if any(kind.shape != (2,) or kind.base != np.dtype("<i8") for kind in kinds.values()):
        return False
    pairs = [(rows[name][:, 0], rows[name][:, 1]) for name in kinds]
    return all(
        bool(((offset >= 0) & (size >= -1) & (size <= num_bytes - offset)).all())
        for offset, size in pairs
    )


def check_member(info: tarfile.TarInfo, place: str | Path) -> None:
    """Raise a ValueError that names `place` and the member unless it is a plain file or a folder.

    Refused are links, devices, pipes, sparse files, absolute names, names with `..`, and files of
    more than MAX_BYTES.
    """
    fault = _fault(info)
    if fault is not None:
        raise ShardError(
            f"{place}: member {shown(info.name)} {fault}; such a file is not opened,"
            " write shards of plain files with `sms-dist data prepare`"
        )


def _fault(info: tarfile.TarInfo) -> str | None:
    if info.islnk() or info.issym():
        return f"is a link (to {shown(info.linkname)})"
    if info.issparse() or info.type not in PLAIN:
        return "is no plain file (a device, a pipe or a sparse file)"
    if not 0 <= info.size <= MAX_BYTES:  # notes may say something else than the header
        return f"has {info.size} bytes, {MAX_BYTES} are the most"
    names = (PurePosixPath(info.name), PureWindowsPath(info.name))
    if any(name.is_absolute() or name.anchor for name in names):
        return "has an absolute path"
    if any(".." in name.parts for name in names):
        return "has .. in its path"
    return None


class _Header(tarfile.TarInfo):
    """A header that is refused before tarfile reads, on its word, what belongs to it."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> _Header:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0:  # with which tarfile would go backwards
            raise ValueError(f"{info.name!r} has {info.size} bytes")
        if info.type in NOTES and info.size > MAX_NOTE:
            raise ValueError(f"a note about a file has {info.size} bytes, {MAX_NOTE} are the most")
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError(f"{info.name!r} is a sparse file")
        return info


def _members(
    tar: tarfile.TarFile, num_bytes: int, place: str | Path
) -> Iterator[tuple[str, Place]]:
    for member in tar:
        check_member(member, place)
        if member.offset_data + member.size > num_bytes:
            raise damaged(place, f"it ends inside {member.name!r}")
        if member.isfile() and not _META.match(member.name) and not is_hidden(member.name):
            yield member.name, Place(member.offset_data, member.size)
        tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all


def _grouped(members: Iterable[tuple[str, Place]], place: str | Path) -> list[Entry]:
    """Return the samples as webdataset reads them; names that give others than meant are refused.

    Files without an extension belong to no sample.
    """
    entries: list[Entry] = []
    num_bytes = 0  # of the last entry
    name, extensions = "", set()
    for name, position in members:
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        key, extension = match.group(1), match.group(2).lower()
        if not entries or entries[-1].key != key:
            entries.append(Entry(key, {}))
            num_bytes = 0
        if extension in entries[-1].files:
            raise damaged(place, f"{name!r} is in it twice")
        entries[-1].files[extension] = position
        extensions.add(extension)
        num_bytes += position.size
        if num_bytes > MAX_BYTES:
            raise ShardError(f"{place}: sample {key} has more than {MAX_BYTES} bytes; {AGAIN}")
    if len(entries) * len(extensions) * 16 > MAX_TABLE or (name and not entries):
        raise ShardError(
            f"{place} has {len(entries)} samples with {len(extensions)} different fields; a sample"
            f" is what files have in common before the first dot of their names, such as"
            f" {shown(name)}: name them SAMPLE.FIELD, without other dots"
        )
    first: dict[str, Entry] = {}
    for entry in entries:
        if first.setdefault(entry.key, entry).files.keys() != entry.files.keys():
            raise ShardError(
                f"{place}: the files of sample {shown(entry.key)} are not side by side; write them"
                " in the order of their names, as `tar --sort=name` does"
            )
    return entries


def _check_end(file: BinaryIO, end: int, place: str | Path) -> None:
    """Raise where tarfile takes a missing end, or a damaged header after the first, for the end."""
    file.seek(end)
    rest = file.read(BLOCK)
    if len(rest) < BLOCK:
        raise damaged(place, "its end is missing")
    while rest:
        if rest.strip(b"\0"):
            raise damaged(place, f"there is no header at byte {end}")
        rest = file.read(1 << 20)
