"""From the bytes of a sample to its image and target, as its card says."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sms_dist.base import plain
from sms_dist.base.plain import shown
from sms_dist.data import fit
from sms_dist.data.card import MAX_PIXELS, Card

AGAIN = "copy it again or write new shards with `sms-dist data prepare`"
FORMATS = ("PNG", "JPEG")  # Pillow's others include programs that draw (PostScript)
MAX_DIGITS = 9  # of a class
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error)


class Decoded(NamedTuple):
    """Image (uint8, C x h x w), class or mask (uint8, h x w), and its sub-group, if any."""

    image: NDArray[np.uint8]
    target: int | NDArray[np.uint8]
    subgroup: int | None = None


def decode(card: Card, fields: Mapping[str, bytes], place: str) -> Decoded:
    """The sample of these fields (extension in lower case -> bytes), in the size it is stored in.

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


def fit_test(card: Card, sample: Decoded) -> Decoded:
    """The sample in the card's size, without chance."""
    image = fit.image(sample.image, card.size, card.fit)
    if isinstance(sample.target, int):
        return sample._replace(image=image)
    return sample._replace(image=image, target=fit.mask(sample.target, card.size, card.fit))


def num_draws(card: Card) -> int:
    """Uniform numbers that `fit_train` takes for a sample."""
    return fit.NUM_DRAWS if card.augment == "random_resized_crop" else 0


def fit_train(card: Card, sample: Decoded, draws: Sequence[float]) -> Decoded:
    """The sample in the card's size: a random part of it, where its augmentation says so.

    `draws` are num_draws(card) uniform numbers in [0, 1). Other augmentations wait for the batch.
    """
    assert len(draws) == num_draws(card), (len(draws), card.augment)
    if not draws:
        return fit_test(card, sample)
    return sample._replace(image=fit.random_resized_crop(sample.image, card.size, draws))


def _image(card: Card, fields: Mapping[str, bytes], place: str) -> NDArray[np.uint8]:
    """C x h x w."""
    data = next((fields[extension] for extension in card.images if extension in fields), None)
    if data is None:
        raise ValueError(f"{place} has no image ({', '.join(card.images)}); {AGAIN}")
    wanted = card.size if card.fit == "exact" else None
    pixels = _pixels(data, "L" if card.channels == 1 else "RGB", wanted, f"{place} has an image")
    return pixels[None] if card.channels == 1 else pixels.transpose(2, 0, 1)


def _mask(
    card: Card, fields: Mapping[str, bytes], size: tuple[int, ...], place: str
) -> NDArray[np.uint8]:
    """h x w; values are classes or void."""
    if card.target not in fields:
        raise ValueError(f"{place} has no mask (.{card.target}); {AGAIN}")
    height, width = size
    mask = _pixels(fields[card.target], None, (height, width), f"{place} has a mask")
    found = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    wrong = [int(v) for v in found if v >= card.num_classes and v != card.void]
    if wrong:
        void = "" if card.void is None else f" or {card.void} (void)"
        raise ValueError(
            f"{place} has a mask with the value {wrong[0]}, not one of 0 to"
            f" {card.num_classes - 1}{void}; are classes and void those of this folder?"
        )
    return mask


def _pixels(
    data: bytes, mode: str | None, size: tuple[int, int] | None, what: str
) -> NDArray[np.uint8]:
    """h x w (x 3). `size` must be that of the file, which is known before it is decoded.

    Without a mode the values are taken as they are, palette indices for example.
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
    """Apart from the ValueErrors that Pillow raises on damaged images."""


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
    """A class or an attribute, 0 ... count - 1, from `EXTENSION` or `json:KEY`."""
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
