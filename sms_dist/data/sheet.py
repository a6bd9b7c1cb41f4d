"""Pictures of samples for people: tiles with captions side by side, masks in colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

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
GOLDEN = 0.618034  # steps of hue by which neighbouring numbers look different


@dataclass(frozen=True)
class Tile:
    """A picture and the lines below it, each a text and its colour."""

    picture: Image.Image
    lines: Sequence[tuple[str, str]]


def sheet(pictures: Sequence[tuple[str, Decoded]], card: Card, info: DatasetInfo) -> Image.Image:
    """Return samples as a model sees them before augmentation, masks beside their images."""
    tiles = []
    for caption, decoded in pictures:
        sample = fit(card, decoded)
        if isinstance(sample.target, int):
            picture = scaled(sample.image)
        else:
            half = SMALLEST // 2
            parts = [scaled(sample.image, half), colored(sample.target, card.num_classes, half)]
            picture = Image.fromarray(np.concatenate([np.asarray(part) for part in parts], axis=1))
        tiles.append(Tile(picture, [(caption, "black")]))
    return drawn([], tiles, names=info.classes if card.task == "segmentation" else ())


def drawn(
    head: Sequence[str],
    tiles: Sequence[Tile],
    columns: int = 0,
    names: Sequence[str] = (),
    has_void: bool = False,
) -> Image.Image:
    """Return lines of text, tiles in columns (0: as many as fit) and a legend of classes."""
    font = ImageFont.load_default(size=11)
    longest = max(font.getlength(text) for tile in tiles for text, _ in tile.lines)
    width = max(min(int(longest) + 1, LARGEST), *(tile.picture.width for tile in tiles))
    deepest = max(tile.picture.height for tile in tiles)
    height = deepest + max(len(tile.lines) for tile in tiles) * LINE + MARGIN
    step = width + MARGIN
    columns = columns or max(1, min(len(tiles), WIDTH // step))
    top = MARGIN + bool(head) * (len(head) * LINE + MARGIN)
    bottom = top + -(-len(tiles) // columns) * height
    entries = list(zip(names, _colours(len(names)).tolist(), strict=False))
    entries += [("void", [0, 0, 0])] * has_void
    entry_step = max((int(font.getlength(name)) for name, _ in entries), default=0) + 2 * LINE
    per_line = max(1, columns * step // entry_step)
    size = (
        max(columns * step, *(int(font.getlength(line)) + 1 for line in ["", *head])) + 2 * MARGIN,
        bottom + -(-len(entries) // per_line) * LINE + 2 * MARGIN,
    )
    whole = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(head):
        draw.text((MARGIN, MARGIN + number * LINE), line, "black", font)
    for number, tile in enumerate(tiles):
        left, y = MARGIN + number % columns * step, top + number // columns * height
        whole.paste(tile.picture, (left, y))
        for line_number, (text, colour) in enumerate(tile.lines):
            while len(text) > 1 and font.getlength(text) > width:
                text = text[:-1]
            draw.text((left, y + tile.picture.height + line_number * LINE), text, colour, font)
    for number, (name, colour) in enumerate(entries):
        left, y = MARGIN + number % per_line * entry_step, bottom + number // per_line * LINE
        draw.rectangle((left, y, left + 11, y + 11), tuple(colour))
        draw.text((left + LINE, y - 1), name, "black", font)
    return whole


def scaled(image: NDArray[np.uint8], smallest: int = SMALLEST) -> Image.Image:
    """Return a C x H x W image, grey or RGB, in a size for people: small ones by whole factors."""
    pixels = (image.repeat(3, axis=0) if len(image) == 1 else image).transpose(1, 2, 0)
    return _resized(Image.fromarray(np.ascontiguousarray(pixels)), SMOOTH, smallest)


def colored(mask: NDArray[np.uint8], num_classes: int, smallest: int = SMALLEST) -> Image.Image:
    """Return an H x W mask in the same size, the colours of its classes unmixed."""
    return _resized(Image.fromarray(_colours(num_classes)[mask]), SHARP, smallest)


def _colours(num_classes: int) -> NDArray[np.uint8]:
    """Return 256 x RGB: a colour for each class, black for all else."""
    table = np.zeros((256, 3), np.uint8)
    for number in range(num_classes):
        hue, value = number * GOLDEN % 1, (1.0, 0.75, 0.55)[number % 3]
        table[number] = np.array(colorsys.hsv_to_rgb(hue, 0.8, value)) * 255
    return table


def _resized(tile: Image.Image, shrinking: Image.Resampling, smallest: int) -> Image.Image:
    if tile.width > LARGEST:
        return tile.resize((LARGEST, max(1, tile.height * LARGEST // tile.width)), shrinking)
    return tile.resize([side * -(-smallest // tile.width) for side in tile.size], SHARP)
