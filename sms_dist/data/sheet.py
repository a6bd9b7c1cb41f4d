"""A contact sheet: samples side by side with their classes, or with their masks in colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from sms_dist.data.card import Card
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.decode import Decoded, fit

WIDTH = 1480  # of the sheet, at most, in pixels
SMALLEST = 112  # width of a tile; smaller images are enlarged, pixel by pixel
LARGEST = 288
MARGIN, LINE = 6, 16
SHARP, SMOOTH = Image.Resampling.NEAREST, Image.Resampling.BICUBIC
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
GOLDEN = 0.618034  # steps of hue by which neighbouring numbers look different


def sheet(pictures: Sequence[tuple[str, Decoded]], card: Card, info: DatasetInfo) -> Image.Image:
    """Captions and samples, as a model sees them before augmentation."""
    tiles = [(caption, _tile(fit(card, sample), card)) for caption, sample in pictures]
    width = max(tile.width for _, tile in tiles) + MARGIN
    height = max(tile.height for _, tile in tiles) + LINE + MARGIN
    columns = max(1, min(len(tiles), WIDTH // width))
    rows = -(-len(tiles) // columns)
    names = info.classes if card.task == "segmentation" else ()
    below = legend(names, columns * width)
    whole = Image.new("RGB", (columns * width + MARGIN, rows * height + below.height), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=11)
    for number, (caption, tile) in enumerate(tiles):
        left, top = number % columns * width + MARGIN, number // columns * height + MARGIN
        whole.paste(tile, (left, top))
        draw.text((left, top + tile.height), shortened(caption, tile.width, font), "black", font)
    whole.paste(below, (MARGIN, rows * height))
    return whole


def colours(num_classes: int) -> NDArray[np.uint8]:
    """256 x RGB: a colour for each class, black for all else."""
    table = np.zeros((256, 3), np.uint8)
    for number in range(num_classes):
        hue, value = number * GOLDEN % 1, (1.0, 0.75, 0.55)[number % 3]
        table[number] = np.array(colorsys.hsv_to_rgb(hue, 0.8, value)) * 255
    return table


def scaled(
    pixels: NDArray[np.uint8], is_mask: bool = False, smallest: int = SMALLEST
) -> Image.Image:
    """H x W x RGB in a size for people: small ones by whole factors, colours of masks unmixed."""
    tile = Image.fromarray(np.ascontiguousarray(pixels))
    if tile.width > LARGEST:
        size = (LARGEST, max(1, tile.height * LARGEST // tile.width))
        return tile.resize(size, SHARP if is_mask else SMOOTH)
    return tile.resize([side * -(-smallest // tile.width) for side in tile.size], SHARP)


def rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """C x H x W, grey or RGB, as H x W x RGB."""
    return (image.repeat(3, axis=0) if len(image) == 1 else image).transpose(1, 2, 0)


def _tile(sample: Decoded, card: Card) -> Image.Image:
    """The image, of segmentation with its mask beside it."""
    if isinstance(sample.target, int):
        return scaled(rgb(sample.image))
    half = SMALLEST // 2
    mask = colours(card.num_classes)[sample.target]
    parts = [scaled(rgb(sample.image), smallest=half), scaled(mask, is_mask=True, smallest=half)]
    return Image.fromarray(np.concatenate([np.asarray(part) for part in parts], axis=1))


def legend(names: Sequence[str], width: int, has_void: bool = False) -> Image.Image:
    """A coloured square and a name for each class, and for pixels of none."""
    table = colours(len(names))
    names = [*names, "void"] if has_void else names
    font = ImageFont.load_default(size=11)
    step = max((int(font.getlength(name)) for name in names), default=0) + 2 * LINE
    columns = max(1, width // step)
    whole = Image.new("RGB", (width, -(-len(names) // columns) * LINE + MARGIN), "white")
    draw = ImageDraw.Draw(whole)
    for number, name in enumerate(names):
        left, top = number % columns * step, number // columns * LINE
        draw.rectangle((left, top, left + 11, top + 11), tuple(table[number].tolist()))
        draw.text((left + LINE, top - 1), name, "black", font)
    return whole


def shortened(text: str, width: int, font: Font) -> str:
    """As much of a text as is no wider than some pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-1]
    return text
