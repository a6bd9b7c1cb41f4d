"""Named tensors as a safetensors file.

Written by the library; read by hand, because the library maps a file into memory: an error of the
disk, or a file that becomes shorter, is then the end of the process instead of a line for people.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from sms_dist.base import safetensors_header
from sms_dist.base.safetensors_header import DTYPES, Place

PIECE = 1 << 20  # bytes


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write these tensors, which may share memory, and lie on any device.

    They must not change meanwhile. Neither atomic nor lasting: for places of `atomic.replacing`.
    ValueError for a type without a name, and for what `read` would refuse; OSError.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise ValueError(f"{name} is of {tensor.dtype}; valid types: {', '.join(DTYPES)}")
    # As safetensors.torch.save_file does, which refuses tensors that share memory.
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=tensor.shape,
            data_ptr=tensor.data_ptr(),
            data_len=tensor.nbytes,
        )
        for name, tensor in held.items()
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
        safetensors_header.places(*safetensors_header.parts(path))
    except ValueError as error:
        raise ValueError(f"these tensors could not be read again: {error}") from None


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a file, on the CPU, and its SHA-256.

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
