"""Reads WebDataset shards: tar files of `key.png` (or `.jpg`) and `key.cls`, image and class."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_iterator

Sample: TypeAlias = tuple[str, NDArray[np.uint8], int]  # key, C x H x W, class
IMAGES = ("png", "jpg", "jpeg")
AGAIN = "copy it again or write new shards with `sms-dist data prepare`"
_DAMAGE = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError)
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error)


def read(path: Path, input_shape: tuple[int, ...], num_classes: int) -> Iterator[Sample]:
    """The samples of one shard in stored order; ValueError names the file and its fault."""
    for members in _members(path):
        key = members["__key__"]
        place = f"{path}: sample {key}"
        yield key, _image(members, input_shape, place), _label(members, num_classes, place)


def _members(path: Path) -> Iterator[dict[str, Any]]:
    """A dict of extension -> bytes per key.

    The file is opened here, not by webdataset: its URLs may name a shell command or a host.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file; {AGAIN}")
    opened = gzip.open if path.suffix == ".gz" else open  # tarfile's own gzip ignores a cut end
    try:
        with opened(path, "rb") as file:
            files = ({**member, "__url__": str(path)} for member in tar_file_iterator(file))
            yield from group_by_keys(files)
    except _DAMAGE as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise ValueError(f"{path} is no complete tar file ({reason}); {AGAIN}") from None


def _image(
    members: Mapping[str, Any], input_shape: tuple[int, ...], place: str
) -> NDArray[np.uint8]:
    channels, height, width = input_shape
    data = next((members[extension] for extension in IMAGES if extension in members), None)
    if data is None:
        raise ValueError(f"{place} has no image ({', '.join(IMAGES)}); {AGAIN}")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.size != (width, height):  # known before anything is decoded
                raise _size_error(place, image.size, (width, height))
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except _SizeError:
        raise
    except (*_UNDECODABLE, Image.DecompressionBombError) as error:
        reason = str(error).split(" <")[0]
        raise ValueError(
            f"{place} has an image that cannot be decoded ({reason}); {AGAIN}"
        ) from None
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


class _SizeError(ValueError):
    """Apart from the ValueErrors that Pillow raises on damaged images."""


def _size_error(place: str, size: tuple[int, int], wanted: tuple[int, int]) -> _SizeError:
    given, needed = ("x".join(map(str, pair)) for pair in (size, wanted))
    return _SizeError(
        f"{place} is {given} pixels, not {needed}; scale the images to {needed} first"
    )


def _label(members: Mapping[str, Any], num_classes: int, place: str) -> int:
    if "cls" not in members:
        raise ValueError(f"{place} has no .cls file with its class; {AGAIN}")
    text = members["cls"][:20].decode(errors="replace").strip()
    if not (text.isascii() and text.isdigit()) or int(text) >= num_classes:
        raise ValueError(
            f"{place} has the class {text!r}, not one of 0 to {num_classes - 1};"
            " is data.name the set that lies in this folder?"
        )
    return int(text)
