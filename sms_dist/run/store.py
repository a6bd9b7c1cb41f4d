"""Folders of tensors and documents that exist complete and with checksums, or not at all."""

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
)
from sms_dist.base.plain import printable
from sms_dist.run.paths import MANIFEST
from sms_dist.run.schema import R, parsed


def save(
    folder: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    documents: Mapping[str, Any],
) -> None:
    """Write files of named tensors and of JSON values as one folder, all or nothing.

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
            manifest = {
                name: {"sha256": sha256_of(new / name), "bytes": (new / name).stat().st_size}
                for name in (*tensors, *documents)
            }
            (new / MANIFEST).write_text(json_text(manifest))


def is_complete(folder: Path) -> bool:
    """Return whether `save` finished here."""
    return (folder / MANIFEST).is_file()


def discard(folder: Path) -> None:
    """Remove a folder, whole or not at all; the next `save` removes the remains of a crash."""
    remains = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with telling(folder):
        shutil.rmtree(remains, ignore_errors=True)  # a crashed process may have had our number
        os.replace(folder, remains)
        sync(folder.parent)
        shutil.rmtree(remains)


def load_tensors(folder: Path, file: str) -> dict[str, Tensor]:
    """Return the named tensors of a saved file, on the CPU; ValueError where a byte changed."""
    path, entry = folder / file, _entry(folder, file)
    problem = None
    if not path.is_file():
        raise _damaged(folder, path, "is missing")
    try:
        try:
            tensors, sha256 = safetensors_file.read(path)
        except ValueError as error:
            problem = str(error).partition(";")[0].removeprefix(f"{path} ")
            sha256 = sha256_of(path)
        num_bytes = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None
    if {"sha256": sha256, "bytes": num_bytes} != entry:
        raise _damaged(folder, path, f"differs from its checksum in {MANIFEST}")
    if problem is not None:
        raise _damaged(folder, path, problem)
    return tensors


def load_document(folder: Path, file: str) -> Any:
    """Return the JSON value of a saved file; ValueError where a byte of it changed."""
    path, entry = folder / file, _entry(folder, file)
    content = _content(folder, path)
    if {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} != entry:
        raise _damaged(folder, path, f"differs from its checksum in {MANIFEST}")
    return _parsed(folder, path, content)


def load_record(folder: Path, file: str, kind: type[R]) -> R:
    """Return the record in a saved file; ValueError where it is none, or a byte of it changed."""
    return parsed(kind, load_document(folder, file), str(folder / file))


def _remove_remains(folder: Path) -> None:
    """Remove the remains of crashed saves of this folder, and the folder if it is incomplete."""
    remains = re.compile(rf"\.{re.escape(folder.name)}\.(\w+\.)?\d+\.tmp")
    for sibling in list(folder.parent.iterdir()):
        if remains.fullmatch(sibling.name) or sibling.name == folder.name:
            shutil.rmtree(sibling)


def _entry(folder: Path, file: str) -> Any:
    """Return the manifest's entry of a file."""
    assert Path(file).name == file, f"{file} is no name of a file in the folder"
    path = folder / MANIFEST
    manifest = _parsed(folder, path, _content(folder, path))
    if not isinstance(manifest, dict):
        raise _damaged(folder, path, "is not a mapping")
    if file not in manifest:
        raise ValueError(
            f"{folder} has no {file}; it has {printable(', '.join(sorted(manifest)), 200)}"
        )
    return manifest[file]


def _parsed(folder: Path, path: Path, content: bytes) -> Any:
    try:
        return plain.parse_json(content, "it")
    except ValueError:
        raise _damaged(folder, path, "is not JSON") from None


def _content(folder: Path, path: Path) -> bytes:
    if not path.is_file():
        raise _damaged(folder, path, "is missing")
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ValueError:
    return ValueError(f"{path} cannot be read: {error.strerror or error}")


def _damaged(folder: Path, path: Path, problem: str) -> ValueError:
    return ValueError(f"{path} {problem}; remove the folder {folder}, it will be made again")
