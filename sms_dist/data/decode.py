"""Decodes the bytes of a sample to its image and target in one size, as its card says.

Pillow's bilinear filter averages over all pixels that it shrinks into one; masks take the nearest.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sms_dist.base import plain
from sms_dist.base.plain import shown
from sms_dist.data.card import MAX_PIXELS, Card
from sms_dist.data.dataset import Split
from sms_dist.data.tar_index import AGAIN

Array: TypeAlias = NDArray[np.uint8]
Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom
FORMATS = ("PNG", "JPEG")  # Pillow's others include programs that draw (PostScript)
MAX_DIGITS = 9  # of a class
LARGER = 8 / 7  # the shorter side before the centre is cut out: 256 for 224
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error)


class Decoded(NamedTuple):
    """Image (uint8, C x h x w), class or mask (uint8, h x w), and its sub-group, if any."""

    image: Array
    target: int | Array
    subgroup: int | None = None


def extensions(card: Card) -> tuple[str, ...]:
    """Return the extensions of the files that `decode` may look at."""
    fields = (card.target, *([card.subgroup] if card.subgroup else ()))
    return (*card.images, *(field.partition(":")[0] for field in fields))


def decode(card: Card, fields: Mapping[str, bytes], place: str) -> Decoded:
    """Return the sample of these fields (extension in small letters -> bytes) in its stored size.

    ValueError in one line that begins with `place` where it is not what the card says.
    """
    image = _image(card, fields, place)
    if card.task == "segmentation":
        return Decoded(image, _mask(card, fields, image.shape[1:], place))
    label = _number(card.target, fields, card.num_classes, place)
    if card.subgroup is None:
        return Decoded(image, label)
    attribute = _number(card.subgroup, fields, len(card.subgroup_names), place)
    return Decoded(image, label, attribute * card.num_classes + label)


def fit(card: Card, sample: Decoded) -> Decoded:
    """Return the sample in the card's size, scaled or cut from the centre."""
    stored = sample.image.shape[1:]
    box = _centre(stored, card.size) if card.fit == "crop" else None
    if box is None and stored == card.size:
        return sample
    image = scaled(sample.image, card.size, box)
    if isinstance(sample.target, int):
        return sample._replace(image=image)
    shape = (card.size[1], card.size[0])
    mask = Image.fromarray(sample.target).resize(shape, Image.Resampling.NEAREST, box)
    return sample._replace(image=image, target=np.asarray(mask))


class Stack:
    """Arrays for samples in the card's size, filled one sample after the other."""

    def __init__(self, card: Card, num_samples: int) -> None:
        is_masks = card.task == "segmentation"
        self.images = np.empty((num_samples, card.channels, *card.size), np.uint8)
        self.targets = (
            np.empty((num_samples, *card.size), np.uint8)
            if is_masks
            else np.empty(num_samples, np.int64)
        )
        self.subgroups = np.empty(num_samples, np.int64) if card.subgroup else None
        self.num_samples = 0

    def add(self, sample: Decoded) -> None:
        """Put a sample behind the others."""
        row = self.num_samples
        self.images[row], self.targets[row] = sample.image, sample.target
        if self.subgroups is not None:
            assert sample.subgroup is not None
            self.subgroups[row] = sample.subgroup
        self.num_samples += 1

    def split(self) -> Split:
        """Return the samples so far."""
        from torch import from_numpy  # the commands that check shards need none of it

        some = slice(self.num_samples)
        subgroups = None if self.subgroups is None else from_numpy(self.subgroups[some])
        return Split(from_numpy(self.images[some]), from_numpy(self.targets[some]), subgroups)


def scaled(pixels: Array, size: tuple[int, int], box: Box | None) -> Array:
    """Return the part of an image (C x h x w) in the box (None: all of it) as C x H x W."""
    channels, height, width = pixels.shape
    if box in (None, (0, 0, width, height)) and (height, width) == size:
        return pixels
    flat = pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    shape = (size[1], size[0])
    result = np.asarray(Image.fromarray(flat).resize(shape, Image.Resampling.BILINEAR, box))
    return result[None] if channels == 1 else result.transpose(2, 0, 1)


def _centre(shape: Sequence[int], size: tuple[int, int]) -> Box:
    """Return what is left of h x w pixels whose shorter side is scaled to 8/7 of `size`."""
    height, width = shape
    scale = min(height / size[0], width / size[1]) / LARGER
    h, w = size[0] * scale, size[1] * scale
    left, top = (width - w) / 2, (height - h) / 2
    return left, top, left + w, top + h


def _image(card: Card, fields: Mapping[str, bytes], place: str) -> Array:
    """Return C x h x w pixels."""
    data = next((fields[extension] for extension in card.images if extension in fields), None)
    if data is None:
        raise ValueError(f"{place} has no image ({', '.join(card.images)}); {AGAIN}")
    wanted = card.size if card.fit == "exact" else None
    pixels = _pixels(data, "L" if card.channels == 1 else "RGB", wanted, f"{place} has an image")
    return pixels[None] if card.channels == 1 else pixels.transpose(2, 0, 1)


def _mask(card: Card, fields: Mapping[str, bytes], size: tuple[int, ...], place: str) -> Array:
    """Return h x w values, each a class or void."""
    if card.target not in fields:
        raise ValueError(f"{place} has no mask (.{card.target}); {AGAIN}")
    height, width = size
    mask = _pixels(fields[card.target], None, (height, width), f"{place} has a mask")
    values = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    wrong = [int(v) for v in values if v >= card.num_classes and v != card.void]
    if wrong:
        void = "" if card.void is None else f" or {card.void} (void)"
        raise ValueError(
            f"{place} has a mask with the value {wrong[0]}, not one of 0 to"
            f" {card.num_classes - 1}{void}; are classes and void those of this folder?"
        )
    return mask


def _pixels(data: bytes, mode: str | None, size: tuple[int, int] | None, what: str) -> Array:
    """Return h x w (x 3) pixels in a mode of Pillow; None takes the stored values as they are.

    ValueError if `size` is another than that of the file, which is known before it is decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, size, what)
            if mode is None and image.mode not in ("L", "P"):
                raise _MisfitError(
                    f"{what} of mode {image.mode}, not one of 8 bits a pixel; {AGAIN}"
                )
            return np.asarray(image if mode is None else image.convert(mode))
    except _MisfitError as error:
        raise ValueError(str(error)) from None
    except (*_UNDECODABLE, Image.DecompressionBombError) as error:
        reason = str(error).split(" <")[0]
        raise ValueError(f"{what} that cannot be decoded ({reason}); {AGAIN}") from None


class _MisfitError(ValueError):
    """An image that is refused, apart from the ValueErrors of Pillow for damaged images."""


def _check_size(image: Image.Image, size: tuple[int, int] | None, what: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _MisfitError(
            f"{what} of {width}x{height} pixels, more than {MAX_PIXELS}; scale it down"
        )
    if size is not None and (height, width) != size:
        raise _MisfitError(
            f"{what} of {width}x{height} pixels, not {size[1]}x{size[0]};"
            " scale the images first, or write `fit: scale` in their card"
        )


def _number(field: str, fields: Mapping[str, bytes], count: int, place: str) -> int:
    """Return a class or an attribute, 0 ... count - 1, from `EXTENSION` or `json:KEY`."""
    extension, _, key = field.partition(":")
    if extension not in fields:
        raise ValueError(f"{place} has no .{extension} file with its class; {AGAIN}")
    data = fields[extension]
    value = _json_value(data, key, place) if key else data[:20].decode(errors="replace").strip()
    text = str(int(value)) if isinstance(value, bool) else str(value)
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    if not is_number or int(text) >= count:
        raise ValueError(
            f"{place} has the class {shown(text[:20])}{f' as {key}' if key else ''}, not one of 0"
            f" to {count - 1}; is data.name the set that lies in this folder?"
        )
    return int(text)


def _json_value(data: bytes, key: str, place: str) -> object:
    try:
        values = plain.parse_json(data, "it")
    except ValueError:
        raise ValueError(f"{place} has a .json file that cannot be read; {AGAIN}") from None
    if not isinstance(values, dict) or key not in values:
        raise ValueError(f"{place} has no {key} in its .json file; {AGAIN}")
    return values[key]
