"""A folder of tensors with documents is there complete and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sms_dist import plain_json, safetensors_header
from sms_dist.paths import MANIFEST
from sms_dist.printable import printable
from sms_dist.records.disk_errors import telling
from sms_dist.records.files import (
    json_text,
    make_folder,
    sha256_of,
    sync,
    write_bytes,
    write_text,
)

__all__ = [
    "discard",
    "is_complete",
    "json_text",
    "load_document",
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
    contents = {name: _tensor_bytes(named) for name, named in tensors.items()}
    contents |= {name: json_text(value).encode() for name, value in documents.items()}
    manifest = {name: _description(content) for name, content in contents.items()}
    contents[MANIFEST] = json_text(manifest).encode()
    with telling(folder):
        make_folder(folder.parent)
        _remove_remains(folder)
        _write_folder(folder, contents)


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
    content = _verified(folder, file)
    try:
        safetensors_header.check(content, "it")
        return safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        reason = str(error).partition(";")[0]
        raise _damaged(folder, folder / file, f"is no safetensors file ({reason})") from None


def load_document(folder: Path, file: str) -> Any:
    """The JSON value of a saved file; ValueError where a byte of it changed."""
    return _parsed(folder, folder / file, _verified(folder, file))


def _write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """All files or, after an OSError, none."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        for name, content in contents.items():
            write_bytes(temporary / name, content)
        sync(temporary)
        os.replace(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # it would eat the space that is left
        raise
    sync(folder.parent)


def _tensor_bytes(named: Mapping[str, Tensor]) -> bytes:
    # safetensors refuses tensors that share memory (tied weights, views), so each gets its own.
    own = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in named.items()
    }
    return safetensors.torch.save(own, metadata={"format": "pt"})


def _description(content: bytes) -> dict[str, str | int]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _remove_remains(folder: Path) -> None:
    """Remove what crashed saves of this folder left, and the folder itself if it is incomplete."""
    remains = re.compile(rf"\.{re.escape(folder.name)}\.\d+\.tmp")
    for sibling in list(folder.parent.iterdir()):
        if remains.fullmatch(sibling.name) or sibling.name == folder.name:
            shutil.rmtree(sibling)


def _verified(folder: Path, file: str) -> bytes:
    """The bytes of a file, after a look at the manifest."""
    assert Path(file).name == file, f"{file} is no name of a file in the folder"
    manifest = _manifest(folder)
    if file not in manifest:
        raise ValueError(
            f"{folder} has no {file}; it has {printable(', '.join(sorted(manifest)), 200)}"
        )
    path = folder / file
    content = _content(folder, path)
    if _description(content) != manifest[file]:
        raise _damaged(folder, path, f"differs from its checksum in {MANIFEST}")
    return content


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    manifest = _parsed(folder, path, _content(folder, path))
    if not isinstance(manifest, dict):
        raise _damaged(folder, path, "is not a mapping")
    return manifest


def _parsed(folder: Path, path: Path, content: bytes) -> Any:
    try:
        return plain_json.parse(content, "it")
    except ValueError:
        raise _damaged(folder, path, "is not JSON") from None


def _content(folder: Path, path: Path) -> bytes:
    if not path.is_file():
        raise _damaged(folder, path, "is missing")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None


def _damaged(folder: Path, path: Path, problem: str) -> ValueError:
    return ValueError(f"{path} {problem}; remove the folder {folder}, it will be made again")
