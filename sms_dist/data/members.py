"""Which members a tar file of samples may have: plain files inside it, nothing that points out."""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from sms_dist.base.plain import shown

MAX_BYTES = 1 << 28  # of a file, and of all files of a sample: the largest image, uncompressed
MAX_NOTE = 2048  # bytes of what tar says about the next file, such as a long name
NOTES = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE)


class MemberError(ValueError):
    """Apart from the ValueErrors that reading a damaged tar file raises."""


class PlainInfo(tarfile.TarInfo):
    """A header that is refused before tarfile reads, on its word, what belongs to it."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> PlainInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0:  # with which tarfile would go backwards
            raise ValueError(f"{info.name!r} has {info.size} bytes")
        if info.type in NOTES and info.size > MAX_NOTE:
            raise ValueError(f"a note about a file has {info.size} bytes, {MAX_NOTE} are the most")
        if info.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError(f"{info.name!r} is a sparse file")
        return info


def check_member(info: tarfile.TarInfo, place: str) -> None:
    """ValueError that names `place` and the member, unless it is a plain file or a folder.

    Refused: links, devices, pipes, sparse files, absolute names, names with `..`, files of more
    than MAX_BYTES.
    """
    fault = _fault(info)
    if fault is not None:
        raise MemberError(
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
