"""A folder of tensors with documents is there complete and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sms_dist.base import plain, safetensors_file
from sms_dist.base.files import (
    json_text,
    make_folder,
    replacing,
    sha256_of,
    sync,
    telling,
    write_text,
)
from sms_dist.base.plain import printable
from sms_dist.run.paths import MANIFEST
from sms_dist.run.schema import R, parsed

__all__ = [
    "discard",
    "is_complete",
    "json_text",
    "load_document",
    "load_record",
    "load_tensors",
    "save",
    "sha256_of",
    "write_text",
]


def save(
    folder: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    documents: Mapping[str, Any],
) -> None:
    """Write file name -> named tensors and file name -> JSON value as one folder, all or nothing.

    One process calls; a crash at any moment leaves the folder absent, and the next call tidies up.
    ValueError where the disk cannot take it.
    """
    assert not is_complete(folder), f"{folder} is there already"
    with telling(folder):
        make_folder(folder.parent)
        _remove_remains(folder)
        with replacing(folder) as new:
            new.mkdir()
            for name, named in tensors.items():
                safetensors_file.write(new / name, named)
            for name, value in documents.items():
                (new / name).write_text(json_text(value))
            manifest = {name: _entry_of(new / name) for name in (*tensors, *documents)}
            (new / MANIFEST).write_text(json_text(manifest))


def is_complete(folder: Path) -> bool:
    """Whether `save` finished here."""
    return (folder / MANIFEST).is_file()


def discard(folder: Path) -> None:
    """Remove a folder, whole or not at all; what a crash leaves of it the next `save` tidies up."""
    remains = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with telling(folder):
        shutil.rmtree(remains, ignore_errors=True)  # a crashed process may have had our number
        os.replace(folder, remains)
        sync(folder.parent)
        shutil.rmtree(remains)


def load_tensors(folder: Path, file: str) -> dict[str, Tensor]:
    """The named tensors of a saved file, on the CPU; ValueError where a byte of it changed."""
    path, entry = folder / file, _entry(folder, file)
    _check_is_there(folder, path)
    try:
        written, found = _read(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if written != entry:
        raise _changed(folder, path)
    if isinstance(found, str):
        raise _damaged(folder, path, found)
    return found


def load_document(folder: Path, file: str) -> Any:
    """The JSON value of a saved file; ValueError where a byte of it changed."""
    path, entry = folder / file, _entry(folder, file)
    content = _content(folder, path)
    if {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} != entry:
        raise _changed(folder, path)
    return _parsed(folder, path, content)


def _entry_of(path: Path) -> dict[str, str | int]:
    """Return what the manifest says of a file."""
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


def load_record(folder: Path, file: str, kind: type[R]) -> R:
    """Return the record in a saved file; ValueError where it is none, or a byte of it changed."""
    return parsed(kind, load_document(folder, file), str(folder / file))


def _read(path: Path) -> tuple[dict[str, str | int], dict[str, Tensor] | str]:
    """Return what the manifest has to say of a file, and its tensors, or why it has none."""
    try:
        tensors, sha256 = safetensors_file.read(path)
        return {"sha256": sha256, "bytes": path.stat().st_size}, tensors
    except ValueError as error:
        return _entry_of(path), str(error).partition(";")[0].removeprefix(f"{path} ")


def _remove_remains(folder: Path) -> None:
    """Remove what crashed saves of this folder left, and the folder itself if it is incomplete."""
    remains = re.compile(rf"\.{re.escape(folder.name)}\.(\w+\.)?\d+\.tmp")
    for sibling in list(folder.parent.iterdir()):
        if remains.fullmatch(sibling.name) or sibling.name == folder.name:
            shutil.rmtree(sibling)


def _entry(folder: Path, file: str) -> Any:
    """What the manifest says of a file."""
    assert Path(file).name == file, f"{file} is no name of a file in the folder"
    manifest = _manifest(folder)
    if file not in manifest:
        raise ValueError(
            f"{folder} has no {file}; it has {printable(', '.join(sorted(manifest)), 200)}"
        )
    return manifest[file]


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    manifest = _parsed(folder, path, _content(folder, path))
    if not isinstance(manifest, dict):
        raise _damaged(folder, path, "is not a mapping")
    return manifest


def _parsed(folder: Path, path: Path, content: bytes) -> Any:
    try:
        return plain.parse_json(content, "it")
    except ValueError:
        raise _damaged(folder, path, "is not JSON") from None


def _content(folder: Path, path: Path) -> bytes:
    _check_is_there(folder, path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _check_is_there(folder: Path, path: Path) -> None:
    if not path.is_file():
        raise _damaged(folder, path, "is missing")


def _unreadable(path: Path, error: OSError) -> ValueError:
    return ValueError(f"{path} cannot be read: {error.strerror or error}")


def _changed(folder: Path, path: Path) -> ValueError:
    return _damaged(folder, path, f"differs from its checksum in {MANIFEST}")


def _damaged(folder: Path, path: Path, problem: str) -> ValueError:
    return ValueError(f"{path} {problem}; remove the folder {folder}, it will be made again")
