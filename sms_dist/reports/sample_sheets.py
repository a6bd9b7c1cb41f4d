"""Test samples as a picture, with what models say of them; drawn as the sheets of data sets are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from PIL import Image, ImageDraw, ImageFont

from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.sheet import LINE, MARGIN, WIDTH, Font, colours, legend, rgb, scaled, shortened
from sms_dist.reports import scores
from sms_dist.tasks.samples import Bytes, LabelledImage, Prediction, Scene

RIGHT, WRONG = "black", "#c00000"
LARGEST_TEXT = 288  # pixels up to which a tile is widened for its captions


@dataclass(frozen=True)
class Tile:
    """A picture with lines of text below it, each in its colour."""

    picture: Image.Image
    lines: Sequence[tuple[str, str]]


def labelled_sheet(
    samples: Sequence[LabelledImage], head: Sequence[str], names: Sequence[str], info: DatasetInfo
) -> Image.Image:
    """Each image with its class and what each of the models takes it for; wrong ones are red."""
    tiles = [_labelled(sample, names, info.classes) for sample in samples]
    columns = max(1, min(len(tiles), WIDTH // (_width(tiles) + MARGIN)))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return _stacked([_lines(head), _grid(rows)])


def scene_sheet(
    samples: Sequence[Scene], head: Sequence[str], names: Sequence[str], info: DatasetInfo
) -> Image.Image:
    """A row for each image: itself, the mask that is wanted, and that of each of the models."""
    rows = _grid([_row(sample, names, info) for sample in samples])
    below = legend(info.classes, rows.width, has_void=info.void is not None)
    return _stacked([_lines(head), rows, below])


def _labelled(sample: LabelledImage, names: Sequence[str], classes: Sequence[str]) -> Tile:
    lines = [(f"#{sample.place}: {classes[sample.wanted]}", RIGHT)]
    for name, guess in zip(names, sample.guesses, strict=True):
        text = f"{name}: {classes[guess.number]} ({guess.probability:.0%})"
        lines.append((text, RIGHT if guess.number == sample.wanted else WRONG))
    return Tile(scaled(rgb(sample.image)), lines)


def _row(sample: Scene, names: Sequence[str], info: DatasetInfo) -> list[Tile]:
    masks = [
        _mask(prediction.mask, _caption(name, prediction), info)
        for name, prediction in zip(names, sample.predictions, strict=True)
    ]
    image = Tile(scaled(rgb(sample.image)), [(f"#{sample.place}", RIGHT)])
    return [image, _mask(sample.wanted, "wanted", info), *masks]


def _caption(name: str, prediction: Prediction) -> str:
    return f"{name}: mIoU {scores.text(prediction.miou, 'miou')}"


def _mask(mask: Bytes, caption: str, info: DatasetInfo) -> Tile:
    return Tile(scaled(colours(info.num_classes)[mask], is_mask=True), [(caption, RIGHT)])


def _grid(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """Tiles below and beside each other, all as wide as the widest."""
    tiles, font = list(chain(*rows)), _font()
    width = _width(tiles)
    deepest = max(len(tile.lines) for tile in tiles)
    height = max(tile.picture.height for tile in tiles) + deepest * LINE + MARGIN
    columns = max(map(len, rows))
    whole = Image.new("RGB", (columns * (width + MARGIN), len(rows) * height), "white")
    draw = ImageDraw.Draw(whole)
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            left, top = x * (width + MARGIN), y * height
            whole.paste(tile.picture, (left, top))
            for number, (text, colour) in enumerate(tile.lines):
                place = (left, top + tile.picture.height + number * LINE)
                draw.text(place, shortened(text, width, font), colour, font)
    return whole


def _width(tiles: Sequence[Tile]) -> int:
    """Of the widest picture or caption."""
    font = _font()
    texts = (font.getlength(text) for tile in tiles for text, _ in tile.lines)
    captions = min(int(max(texts)) + 1, LARGEST_TEXT)
    return max(captions, *(tile.picture.width for tile in tiles))


def _lines(texts: Sequence[str]) -> Image.Image:
    """Text, a line for each."""
    font = _font()
    width = max(int(font.getlength(text)) for text in texts) + 1
    whole = Image.new("RGB", (width, len(texts) * LINE + MARGIN), "white")
    draw = ImageDraw.Draw(whole)
    for number, text in enumerate(texts):
        draw.text((0, number * LINE), text, "black", font)
    return whole


def _stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """One below the other, with a margin around them."""
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures)
    whole, top = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), "white"), MARGIN
    for picture in pictures:
        whole.paste(picture, (MARGIN, top))
        top += picture.height
    return whole


def _font() -> Font:
    return ImageFont.load_default(size=11)
