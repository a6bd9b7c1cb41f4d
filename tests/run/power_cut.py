"""What a disk may hold after a crash; after a power cut only what was synced is certain.

A model of a file system, fed with the operations that `disk_trap` has seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from disk_trap import Operation


@dataclass
class File:
    data: bytes = b""
    synced: bytes = b""  # what is lost is the file's content, not its name


@dataclass
class Folder:
    names: dict[str, File | Folder] = field(default_factory=dict)
    synced: dict[str, File | Folder] = field(default_factory=dict)
    is_old: bool = False  # was there before the first operation


class Disk:
    """The files below `root`, and what would be left of them."""

    def __init__(self, root: Path) -> None:
        """All that is there now counts as synced."""
        self._root, self._tree = str(root), _read(root)

    def apply(self, operation: Operation) -> None:
        folder, name = self._parent(operation.path)
        node = folder.names.get(name) if name else folder
        match operation.kind:
            case "open":
                file = folder.names.setdefault(name, File())
                assert isinstance(file, File)
                file.data = b""  # opened to write from its beginning, or new
            case "write":
                assert isinstance(node, File)
                end = operation.place + len(operation.data)
                node.data = node.data[: operation.place] + operation.data + node.data[end:]
            case "truncate":
                assert isinstance(node, File)
                node.data = node.data[: operation.place]
            case "fsync" if isinstance(node, Folder):
                node.synced = dict(node.names)
            case "fsync":
                assert isinstance(node, File)
                node.synced = node.data
            case "mkdir":
                folder.names[name] = Folder()
            case "rename":
                target, new = self._parent(operation.target)
                target.names[new] = folder.names.pop(name)
            case "unlink" | "rmdir":
                del folder.names[name]
            case _:
                raise AssertionError(operation.kind)

    def write(self, target: Path, state: str) -> None:
        """Lay down what may be there after a cut: a key of STATES."""
        _lay(self._tree, target, STATES[state], lambda file: file.synced)

    def write_all(self, target: Path) -> None:
        """Lay down what is there when a process dies, and the power stays on."""
        _lay(self._tree, target, lambda folder: folder.names, lambda file: file.data)

    def _parent(self, path: str) -> tuple[Folder, str]:
        relative = os.path.relpath(path, self._root)
        if relative == ".":
            return self._tree, ""
        *above, name = relative.split(os.sep)
        folder = self._tree
        for part in above:
            below = folder.names[part]
            assert isinstance(below, Folder)
            folder = below
        return folder, name


Names = dict[str, File | Folder]
# Which names of a folder are there. Content is what was synced, always.
STATES: dict[str, Callable[[Folder], Names]] = {
    "only what was synced": lambda folder: folder.synced,
    "all names": lambda folder: folder.names,
    "new folders lose theirs": lambda f: f.names if f.is_old else f.synced,
}


def _read(root: Path) -> Folder:
    folder = Folder(is_old=True)
    for path in root.iterdir():
        content = b"" if path.is_dir() else path.read_bytes()
        folder.names[path.name] = _read(path) if path.is_dir() else File(content, content)
    folder.synced = dict(folder.names)
    return folder


def _lay(
    folder: Folder,
    target: Path,
    names: Callable[[Folder], Names],
    content: Callable[[File], bytes],
) -> None:
    target.mkdir(parents=True)
    for name, node in names(folder).items():
        if isinstance(node, Folder):
            _lay(node, target / name, names, content)
        else:
            (target / name).write_bytes(content(node))
