"""Is this a safetensors file? Its header is checked before a library takes memory on its word.

Format: 8 bytes with the length of the header, the header (JSON: name -> dtype, shape, offsets),
then the tensors' bytes, one after another. https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from sms_dist import plain_json

MAX_HEADER = 1 << 21  # bytes: 20,000 tensors; the library allows 100 MB
MAX_DIMS = 16
MAX_ELEMENTS = 1 << 48
LONGEST_NAME = 1000
METADATA = "__metadata__"
BYTES = {  # of a number
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}


class Place(NamedTuple):
    """Where a tensor is; in the order of places empty tensors come before others."""

    first: int  # byte, counted from the end of the header
    last: int  # the byte after the last one
    name: str
    dtype: str
    shape: list[int]


def check(path: Path, place: str | None = None) -> list[Place]:
    """The tensors, in the order of their bytes; ValueError unless they fill the file exactly.

    Only the header is read. `place` names the file in the error (None: its path).
    """
    place = place or str(path)
    try:
        header, num_bytes = _parts(path)
        return _places(plain_json.parse_object(header, "the header", MAX_HEADER), num_bytes)
    except OSError as error:
        raise ValueError(f"{place} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ValueError(
            f"{place} is no safetensors file: {error}; copy it again, or write it anew with"
            " safetensors.torch.save_file"
        ) from None


def _parts(path: Path) -> tuple[bytes, int]:
    """The header, and how many bytes follow it."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = _header_length(file.read(8), size)
        return file.read(length), size - 8 - length


def _header_length(start: bytes, size: int) -> int:
    if len(start) < 8:
        raise ValueError(f"it has {size} bytes only")
    length = int.from_bytes(start, "little")
    if length > MAX_HEADER:
        raise ValueError(f"its header is said to have {length} bytes, {MAX_HEADER} are the most")
    if length > size - 8:
        raise ValueError(f"its header is said to have {length} bytes, the whole file has {size}")
    return length


def _places(header: dict[str, Any], num_bytes: int) -> list[Place]:
    """Every byte behind the header belongs to one tensor, and every tensor has its bytes."""
    notes = header.pop(METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise ValueError(f"{METADATA} is not a mapping of names to texts")
    places = sorted(_place(name, facts) for name, facts in header.items())
    end = 0
    for first, last, name, *_ in places:
        if first != end:
            what = "overlaps the tensor before it" if first < end else "leaves bytes unused"
            raise ValueError(f"{name[:80]!r} begins at byte {first} and {what}")
        end = last
    if end != num_bytes:
        raise ValueError(f"its tensors take {end} bytes, and it has {num_bytes}")
    return places


def _place(name: str, facts: Any) -> Place:
    quoted = repr(name[:80])
    if len(name) > LONGEST_NAME:
        raise ValueError(f"the name {quoted} ... has {len(name)} characters")
    if not isinstance(facts, dict) or facts.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{quoted} does not have just dtype, shape and data_offsets")
    dtype, shape, offsets = facts["dtype"], facts["shape"], facts["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise ValueError(f"{quoted} has a dtype that is not known; legal: {', '.join(BYTES)}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMS:
        raise ValueError(f"{quoted} has a shape that is no list of at most {MAX_DIMS} sizes")
    if math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise ValueError(f"{quoted} has a shape that is too large")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{quoted} has data_offsets that are not two places in the file")
    first, last = offsets
    if last - first != math.prod(shape) * BYTES[dtype]:
        raise ValueError(f"{quoted} has a shape that does not take the bytes it is given")
    return Place(first, last, name, dtype, shape)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(each) is int and each >= 0 for each in values)
