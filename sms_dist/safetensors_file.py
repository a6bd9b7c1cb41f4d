"""Named tensors as a safetensors file, piece by piece: no second copy of a model in memory.

The format is told in safetensors_header.py. The bytes are those that the safetensors library makes
of the same tensors, which can write and read a file only through a copy or a mapping of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from io import FileIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sms_dist import safetensors_header
from sms_dist.file_pieces import PIECE
from sms_dist.safetensors_header import DTYPES, METADATA, Place

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_RANKS = {dtype: rank for rank, dtype in enumerate(_NAMES)}


def pieces(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of a file with these tensors, which may share memory, and lie on any device.

    They must not change until the last piece is taken. ValueError for a type without a name, and
    for what `read` would refuse.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ValueError(f"{name} is of {tensor.dtype}; legal: {', '.join(DTYPES)}")
    names = sorted(tensors, key=lambda name: (_RANKS[tensors[name].dtype], name))
    yield memoryview(_header({name: tensors[name] for name in names}))
    for name in names:
        content = _bytes(tensors[name].detach().cpu().contiguous())
        yield from (content[at : at + PIECE] for at in range(0, len(content), PIECE))


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, on the CPU, and its SHA-256.

    Takes no more memory than they. ValueError where it is no safetensors file, or changes
    meanwhile; OSError.
    """
    places = safetensors_header.check(path)
    digest = hashlib.sha256()
    end = places[-1].last if places else 0
    with path.open("rb", buffering=0) as file:
        _fill(memoryview(bytearray(path.stat().st_size - end)), file, digest)
        tensors = {place.name: _tensor(place, file, digest) for place in places}
    return tensors, digest.hexdigest()


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """The length and the text in front of these tensors' bytes."""
    ends = accumulate(tensor.nbytes for tensor in tensors.values())
    facts = {
        name: {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end - tensor.nbytes, end],
        }
        for (name, tensor), end in zip(tensors.items(), ends, strict=True)
    }
    whole = {METADATA: {"format": "pt"}} | facts
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    try:
        safetensors_header.places(text, sum(tensor.nbytes for tensor in tensors.values()))
    except ValueError as error:
        raise ValueError(f"these tensors could not be read again: {error}") from None
    return len(text).to_bytes(8, "little") + text


def _tensor(place: Place, file: FileIO, digest: hashlib._Hash) -> Tensor:
    room = torch.empty(place.last - place.first, dtype=torch.uint8)
    _fill(_bytes(room), file, digest)
    return room.view(DTYPES[place.dtype]).view(place.shape)


def _bytes(tensor: Tensor) -> memoryview:
    """Of a contiguous tensor on the CPU, in its memory."""
    array: np.ndarray[Any, np.dtype[np.uint8]] = tensor.view(-1).view(torch.uint8).numpy()
    return array.data


def _fill(room: memoryview, file: FileIO, digest: hashlib._Hash) -> None:
    for at in range(0, len(room), PIECE):
        left = piece = room[at : at + PIECE]
        while len(left):
            num = file.readinto(left)
            if not num:
                raise ValueError("it became shorter while it was read")
            left = left[num:]
        digest.update(piece)
