"""Named tensors as a safetensors file, whose header is checked before memory is taken on its word.

Format: 8 bytes with the length of the header, the header (JSON: name -> dtype, shape, offsets),
then the tensors' bytes, one after another. https://github.com/huggingface/safetensors

Written by the library; read by hand, because the library maps a file into memory: an error of the
disk, or a file that becomes shorter, then ends the process instead of raising an error.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import torch
from torch import Tensor

from sms_dist.base import plain

MAX_HEADER = 1 << 21  # bytes: 20,000 tensors; the library allows 100 MB
MAX_DIMS = 16
MAX_ELEMENTS = 1 << 48
LONGEST_NAME = 1000
METADATA = "__metadata__"
PIECE = 1 << 20  # bytes
# In the order of their tensors in a file, which keeps each aligned.
DTYPES = {
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F32": torch.float32,
    "U32": torch.uint32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Place(NamedTuple):
    """The place of a tensor in a file; sorted, empty tensors come before others."""

    first: int  # byte, counted from the end of the header
    last: int  # the byte after the last one
    name: str
    dtype: str
    shape: list[int]


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write these tensors, which may share memory, and lie on any device.

    They must not change meanwhile. Neither atomic nor lasting: for places of `files.replacing`.
    ValueError for a type without a name, and for tensors that `read` would refuse; OSError.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise ValueError(f"{name} is of {tensor.dtype}; valid types: {', '.join(DTYPES)}")
    # As safetensors.torch.save_file does, which refuses tensors that share memory.
    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=tensor.shape,
            data_ptr=tensor.data_ptr(),
            data_len=tensor.nbytes,
        )
        for name, tensor in on_host.items()
    }
    try:
        safetensors.serialize_file(specs, path, metadata={"format": "pt"})
    except safetensors.SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise ValueError(f"{path} could not be written: {error}") from None
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
    path.chmod(path.parent.stat().st_mode & 0o666)  # the library lets only its owner read it
    try:
        _places(path)
    except ValueError as error:
        raise ValueError(f"these tensors could not be read again: {error}") from None


def read(path: Path, place: str | None = None) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a file, on the CPU, and its SHA-256.

    Takes no more memory than they. `place` names the file in errors (None: its path): ValueError
    where it is no safetensors file, or changes meanwhile; OSError.
    """
    places = check(path, place)
    digest = hashlib.sha256()
    end = places[-1].last if places else 0
    with path.open("rb", buffering=0) as file:
        _fill(memoryview(bytearray(path.stat().st_size - end)), file, digest)
        tensors = {place.name: _tensor(place, file, digest) for place in places}
    return tensors, digest.hexdigest()


def check(path: Path, place: str | None = None) -> list[Place]:
    """Return the places of the tensors, in order; ValueError unless they fill the file exactly.

    Only the header is read. `place` names the file in the error (None: its path).
    """
    place = place or str(path)
    try:
        return _places(path)
    except OSError as error:
        raise ValueError(f"{place} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(
            f"{place} is no safetensors file: {error}; copy it again, or write it anew with"
            " safetensors.torch.save_file"
        ) from None


def _places(path: Path) -> list[Place]:
    text, num_bytes = _header(path)
    header = plain.parse_object(text, "the header", MAX_HEADER)
    notes = header.pop(METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise ValueError(f"{METADATA} is not a mapping of names to texts")
    places = sorted(_place(name, facts) for name, facts in header.items())
    end = 0
    for first, last, name, *_ in places:
        if first != end:
            problem = "overlaps the tensor before it" if first < end else "leaves bytes unused"
            raise ValueError(f"{name[:80]!r} begins at byte {first} and {problem}")
        end = last
    if end != num_bytes:
        raise ValueError(f"its tensors take {end} bytes, and it has {num_bytes}")
    return places


def _header(path: Path) -> tuple[bytes, int]:
    """Return the header of a file, and how many bytes follow it."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8:
            raise ValueError(f"it has {size} bytes only")
        if length > MAX_HEADER:
            raise ValueError(
                f"its header is said to have {length} bytes, {MAX_HEADER} are the most"
            )
        if length > size - 8:
            raise ValueError(
                f"its header is said to have {length} bytes, the whole file has {size}"
            )
        return file.read(length), size - 8 - length


def _place(name: str, facts: Any) -> Place:
    quoted = repr(name[:80])
    if len(name) > LONGEST_NAME:
        raise ValueError(f"the name {quoted} ... has {len(name)} characters")
    if not isinstance(facts, dict) or facts.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{quoted} does not have just dtype, shape and data_offsets")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{quoted} has an unknown dtype; valid types: {', '.join(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMS:
        raise ValueError(f"{quoted} has a shape that is no list of at most {MAX_DIMS} sizes")
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise ValueError(f"{quoted} has a shape that is too large")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{quoted} has data_offsets that are not two places in the file")
    first, last = offsets
    if last - first != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError(f"{quoted} has a shape that does not take the bytes it is given")
    return Place(first, last, name, dtype, shape)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(each) is int and each >= 0 for each in values)


def _tensor(place: Place, file: FileIO, digest: hashlib._Hash) -> Tensor:
    room = torch.empty(place.last - place.first, dtype=torch.uint8)
    array: np.ndarray[Any, np.dtype[np.uint8]] = room.numpy()
    _fill(array.data, file, digest)
    return room.view(DTYPES[place.dtype]).view(place.shape)


def _fill(room: memoryview, file: FileIO, digest: hashlib._Hash) -> None:
    for start in range(0, len(room), PIECE):
        left = piece = room[start : start + PIECE]
        while len(left):
            num = file.readinto(left)
            if not num:
                raise ValueError("it became shorter while it was read")
            left = left[num:]
        digest.update(piece)
