"""Decodes the bytes of a sample to its image and target in one size, as its card says.

Images and masks are turned as their EXIF orientation says. Pillow's bilinear filter averages over
all pixels that it shrinks into one; masks take the nearest.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

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
PNG = b"\x89PNG"
MAGIC = {b"\xff\xd8\xff": "jpg", PNG: "png"}  # extensions of the formats that are decoded
PNG_DEPTH = 24  # where a PNG says how many bits a channel has; behind it, which channels
# Formats that people have, by their first bytes: they are named where they are refused.
OTHER_FORMATS = {
    **{b"II*\0": "TIFF", b"MM\0*": "TIFF", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP"},
    **{b"\x93NUMPY": "NumPy", b"\0\0\0\x0cjP": "JPEG 2000", b"SIMPLE  =": "FITS"},
}
ORIENTATION = 0x0112  # the EXIF tag; what to do with an image that has the value
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
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
    label = _number(card, card.target, fields, card.num_classes, place)
    if card.subgroup is None:
        return Decoded(image, label)
    attribute = _number(card, card.subgroup, fields, len(card.subgroup_names), place)
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
    data = image_bytes(card, fields)
    if data is None:
        raise _lacking(card, fields, card.images, f"{place} has no image")
    wanted = card.size if card.fit == "exact" else None
    return pixels(data, card.channels, wanted, f"{place} has an image")


def image_bytes(card: Card, fields: Mapping[str, bytes]) -> bytes | None:
    """Return the contents of the file with a sample's image; None if it has none."""
    return next((fields[extension] for extension in card.images if extension in fields), None)


def _mask(card: Card, fields: Mapping[str, bytes], size: tuple[int, ...], place: str) -> Array:
    """Return h x w values, each a class or void."""
    if card.target not in fields:
        raise _lacking(card, fields, [f".{card.target}"], f"{place} has no mask")
    what = f"{place} has a mask"
    mask = stored_values(opened(fields[card.target], what), fields[card.target], what)
    _check_size(mask.shape, size, what)
    values = np.flatnonzero(np.bincount(mask.ravel()))
    wrong = [int(v) for v in values if v >= card.num_classes and v != card.void]
    if wrong:
        void = "" if card.void is None else f" or {card.void} (void)"
        raise ValueError(
            f"{what} with the value {wrong[0]}, not one of 0 to"
            f" {card.num_classes - 1}{void}; are classes and void those of this folder?"
        )
    return mask.astype(np.uint8)


def _lacking(
    card: Card, fields: Mapping[str, bytes], wanted: Sequence[str], what: str
) -> ValueError:
    """Return the error for a sample without any of the wanted fields, with those that it has."""
    has = sorted(fields.keys() - {*extensions(card)})
    ends = tuple(f".{field.lstrip('.')}" for field in wanted)
    if dotted := next((field for field in has if field.endswith(ends)), None):
        return ValueError(
            f"{what} ({', '.join(wanted)}) but a field {dotted}, which begins at the first dot of"
            " the file's name; write the dots before the extension as _"
        )
    only = f" but {', '.join(has[:5])}" if has else ""
    return ValueError(f"{what} ({', '.join(wanted)}){only}; {AGAIN}")


def pixels(
    data: bytes, channels: int, size: tuple[int, int] | None, what: str, again: str = AGAIN
) -> Array:
    """Return an image as C x h x w: grey (1) or RGB (3) without alpha, of 16 bits the upper 8.

    ValueError that begins with `what` if it is damaged (then do `again`) or not of `size`.
    """
    image = opened(data, what, again)
    _check_size(image.size[::-1], size, what)
    image.info.pop("transparency", None)  # which Pillow would convert too, or warn of
    values = np.asarray(eight_bits(image).convert("L" if channels == 1 else "RGB"))
    return values[None] if channels == 1 else values.transpose(2, 0, 1)


def opened(data: bytes, what: str, again: str = AGAIN) -> Image.Image:
    """Return an image as people see it, in the mode in which it is stored.

    ValueError that begins with `what` if it is neither PNG nor JPEG, damaged, or enormous.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:  # before it is decoded
                raise _MisfitError(
                    f"{what} of {width}x{height} pixels, more than {MAX_PIXELS}; scale it down"
                )
            if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
                raise _MisfitError(f"{what} that is animated; write a PNG for each picture of it")
            image.load()
            return upright(image)
    except _MisfitError as error:
        raise ValueError(str(error)) from None
    except (*_UNDECODABLE, Image.DecompressionBombError) as error:
        if other := other_format(data):
            raise ValueError(
                f"{what} that cannot be decoded: it is {other}; convert it to PNG or JPEG of 8 or"
                " 16 bits"
            ) from None
        reason = str(error).split(" <")[0]
        raise ValueError(f"{what} that cannot be decoded ({reason}); {again}") from None


def other_format(data: bytes) -> str | None:
    """Return which format is known but not decoded; None for all else."""
    if data[4:8] == b"ftyp":
        return "HEIC or AVIF"
    return next((name for magic, name in OTHER_FORMATS.items() if data.startswith(magic)), None)


def upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF orientation says."""
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def eight_bits(image: Image.Image) -> Image.Image:
    """Return the image with 8 bits a channel: of 16 the upper ones, as of colours of 16 bits.

    ValueError for 32 bits and floats: nobody knows which of their values are black and white.
    """
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no range of values; scale it to 8 or 16 bits")
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image


def stored_values(image: Image.Image, data: bytes, what: str) -> NDArray[np.integer[Any]]:
    """Return the h x w values of a mask: grey of 1 to 16 bits or a palette's indices, unscaled.

    ValueError that begins with `what` for colours, whose classes nobody knows, and for JPEG.
    """
    if not data.startswith(PNG):
        raise ValueError(f"{what} that is JPEG, which changes values; masks are PNG")
    if image.mode not in ("1", "L", "P", "I;16"):
        raise ValueError(
            f"{what} of mode {image.mode}; write the number of each pixel's class as grey or as"
            " index of a palette"
        )
    values: NDArray[np.integer[Any]] = np.array(image)
    if image.mode == "1":
        return values.astype(np.uint8)
    if image.mode == "L" and data[PNG_DEPTH] < 8:  # Pillow stretches 2 and 4 bits to 0 ... 255
        values //= 255 // (2 ** data[PNG_DEPTH] - 1)
    return values


class _MisfitError(ValueError):
    """An image that is refused, apart from the ValueErrors of Pillow for damaged images."""


def _check_size(stored: Sequence[int], size: Sequence[int] | None, what: str) -> None:
    if size is not None and tuple(stored) != tuple(size):
        raise ValueError(
            f"{what} of {stored[1]}x{stored[0]} pixels, not {size[1]}x{size[0]};"
            " scale the images first, or write `fit: scale` in their card"
        )


def _number(card: Card, field: str, fields: Mapping[str, bytes], count: int, place: str) -> int:
    """Return a class or an attribute, 0 ... count - 1, from `EXTENSION` or `json:KEY`."""
    extension, _, key = field.partition(":")
    if extension not in fields:
        raise _lacking(card, fields, [f".{extension}"], f"{place} has no class")
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
