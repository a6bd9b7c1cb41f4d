"""Which members a tar file of samples may have: plain files inside it, nothing that points out."""

from __future__ import annotations

import tarfile
from pathlib import PurePosixPath, PureWindowsPath

PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE)


class MemberError(ValueError):
    """Apart from the ValueErrors that reading a damaged tar file raises."""


def check_member(info: tarfile.TarInfo, place: str) -> None:
    """ValueError that names `place` and the member, unless it is a plain file or a folder.

    Refused: links, devices, pipes, sparse files, absolute names, and names with `..`.
    """
    fault = _fault(info)
    if fault is not None:
        raise MemberError(
            f"{place}: member {info.name!r} {fault}; such a file is not opened,"
            " write shards of plain files with `sms-dist data prepare`"
        )


def _fault(info: tarfile.TarInfo) -> str | None:
    if info.islnk() or info.issym():
        return f"is a link (to {info.linkname!r})"
    if info.issparse() or info.type not in PLAIN:
        return "is no plain file (a device, a pipe or a sparse file)"
    names = (PurePosixPath(info.name), PureWindowsPath(info.name))
    if any(name.is_absolute() or name.anchor for name in names):
        return "has an absolute path"
    if any(".." in name.parts for name in names):
        return "has .. in its path"
    return None
