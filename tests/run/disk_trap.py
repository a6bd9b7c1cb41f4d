"""Sees every operation that changes files below a folder, and can end the process at any of them.

It stands where Python calls the operating system, so the code under trial runs as it is. Files
written by compiled code are not seen, but for those of safetensors, as one write.
"""

from __future__ import annotations

import builtins
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

CRASHED = 99  # exit status of a process that was ended here
REAL = {name: getattr(os, name) for name in dir(os) if callable(getattr(os, name))}
REAL_OPEN = io.open
REAL_SERIALIZE = safetensors.serialize_file
WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Operation:
    kind: str  # open, write, fsync, rename, link, mkdir, unlink, rmdir, truncate
    path: str
    target: str = ""  # of a rename or a link
    data: bytes = b""  # of a write
    place: int = 0  # of a write in its file; a truncated file's size


class Trap:
    """Operations are counted from 0.

    `crash_at`: the operation before which the process ends; `half`: in the middle of it, if it is
    a write. `look`: called before each operation. Progress is not counted, as it goes by the
    clock, nor what threads do whose names begin as in `ignored`.
    """

    def __init__(
        self,
        root: Path,
        crash_at: int | None = None,
        half: bool = False,
        look: Callable[[Operation], None] = lambda operation: None,
        ignored: tuple[str, ...] = ("filelock-lease",),
    ) -> None:
        self.root, self._crash_at, self._half = str(root), crash_at, half
        self._look, self._ignored = look, ignored
        self.seen: list[Operation] = []

    def before(self, kind: str, path: str, **more: Any) -> None:
        is_inside = path.startswith(self.root + os.sep) or path == self.root
        if not is_inside or f"{os.sep}progress" in path:
            return
        if threading.current_thread().name.startswith(self._ignored):
            return
        operation = Operation(kind, path, **more)
        if len(self.seen) == self._crash_at:
            if self._half and kind == "write":
                descriptor = REAL["open"](path, os.O_WRONLY)
                REAL["pwrite"](
                    descriptor, operation.data[: len(operation.data) // 2], more["place"]
                )
            os._exit(CRASHED)
        self.seen.append(operation)
        self._look(operation)

    @contextmanager
    def set(self) -> Iterator[Trap]:
        """Until the end every operation of this process is seen."""
        patched = {name: getattr(self, f"_{name}") for name in OPERATIONS}
        for name, function in patched.items():
            setattr(os, name, function)
        io.open = builtins.open = self._open_file
        safetensors.serialize_file = self._serialize_file  # type: ignore[assignment]
        try:
            yield self
        finally:
            io.open = builtins.open = REAL_OPEN
            safetensors.serialize_file = REAL_SERIALIZE
            for name in patched:
                setattr(os, name, REAL[name])

    def _open_file(self, file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return REAL_OPEN(file, mode, *args, **options)
        raw = _Raw(self, os.path.abspath(file), mode.replace("t", ""))
        size = args[0] if args and args[0] > 1 else io.DEFAULT_BUFFER_SIZE
        kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
        buffered = kind(raw, size)
        if "b" in mode:
            return buffered
        encoding = options.get("encoding") or (args[1] if len(args) > 1 else None) or "utf-8"
        return io.TextIOWrapper(buffered, encoding)

    def _serialize_file(self, tensors: Any, path: Any, metadata: Any) -> None:
        self.before("open", os.path.abspath(path))
        REAL_OPEN(path, "wb").close()
        content = bytes(safetensors.serialize(tensors, metadata))
        self.before("write", os.path.abspath(path), data=content, place=0)
        REAL_SERIALIZE(tensors, path, metadata)

    def _open(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & WRITING and flags & (os.O_CREAT | os.O_TRUNC):
            is_new = not os.path.lexists(path)
            if not (flags & os.O_EXCL and not is_new):
                self.before("open", os.path.abspath(path))
        return int(REAL["open"](path, flags, *args, **options))

    def _fsync(self, descriptor: int) -> None:
        self.before("fsync", of(descriptor))
        REAL["fsync"](descriptor)

    def _write(self, descriptor: int, data: bytes) -> int:
        if os.path.isfile(name := of(descriptor)):
            place = REAL["lseek"](descriptor, 0, os.SEEK_CUR)
            self.before("write", name, data=bytes(data), place=place)
        return int(REAL["write"](descriptor, data))

    def _pwrite(self, descriptor: int, data: bytes, place: int) -> int:
        self.before("write", of(descriptor), data=bytes(data), place=place)
        return int(REAL["pwrite"](descriptor, data, place))

    def _replace(self, path: Any, target: Any) -> None:
        self.before("rename", os.path.abspath(path), target=os.path.abspath(target))
        REAL["replace"](path, target)

    _rename = _replace

    def _link(self, path: Any, target: Any) -> None:
        self.before("link", os.path.abspath(path), target=os.path.abspath(target))
        REAL["link"](path, target)

    def _mkdir(self, path: Any, *args: Any, **options: Any) -> None:
        if not os.path.lexists(path) and os.path.isdir(os.path.dirname(os.path.abspath(path))):
            self.before("mkdir", os.path.abspath(path))
        REAL["mkdir"](path, *args, **options)

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        if os.path.lexists(name := _below(path, dir_fd)):
            self.before("unlink", name)
        REAL["unlink"](path, dir_fd=dir_fd)

    _remove = _unlink

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        self.before("rmdir", _below(path, dir_fd))
        REAL["rmdir"](path, dir_fd=dir_fd)

    def _truncate(self, path: Any, size: int) -> None:
        name = of(path) if isinstance(path, int) else os.path.abspath(path)
        self.before("truncate", name, place=size)
        REAL["truncate"](path, size)

    _ftruncate = _truncate


OPERATIONS = (
    *("open", "fsync", "write", "pwrite", "replace", "rename", "link", "mkdir", "unlink"),
    *("remove", "rmdir", "truncate", "ftruncate"),
)


class _Raw(io.FileIO):
    """A file whose writes are seen."""

    def __init__(self, trap: Trap, path: str, mode: str) -> None:
        self._trap, self._path, self._appends = trap, path, "a" in mode
        if "w" in mode or not os.path.lexists(path):
            trap.before("open", path)
        super().__init__(path, mode)

    def write(self, data: Any) -> int:
        place = os.fstat(self.fileno()).st_size if self._appends else self.tell()
        self._trap.before("write", self._path, data=bytes(data), place=place)
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self._trap.before("truncate", self._path, place=self.tell() if size is None else size)
        return super().truncate(size)


def of(descriptor: int) -> str:
    """The path of an open file."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _below(path: Any, descriptor: int | None) -> str:
    return os.path.abspath(path) if descriptor is None else os.path.join(of(descriptor), path)
