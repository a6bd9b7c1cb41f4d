"""CamVid-like folders: images and masks of the same names, in one folder each for every part.

Either train/ beside trainannot/, or images/train/ beside labels/train/, or images/ beside labels/
with the names of each part in train.txt and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from data import card_source
from data.card import Card
from data.decode import decode
from data.prepare.layout import Prepared, image_field, images_in, key_of, shuffled
from data.shards import Sample
from sms_dist.config import DataConfig

MASK = "seg.png"
Pair = tuple[Path, Path]  # image, mask


def read(source: Path, name: str) -> Prepared:
    """Training and validation scenes together; each mask is one of the card's classes."""
    card = card_source(name, "name").card(DataConfig(name=name))
    train, test = shuffled(pairs(source, ("train", "val")), name), pairs(source, ("test",))
    return Prepared(name, card.class_names, samples(train, card), samples(test, card))


def has_pairs(source: Path) -> bool:
    """The folder has one of these forms."""
    return (source / "trainannot").is_dir() or (source / "labels").is_dir()


def pairs(source: Path, parts: Sequence[str]) -> list[Pair]:
    """Of the parts that are there, in turn."""
    found = [pair for part in parts for pair in _part(source, part)]
    if not found:
        raise ValueError(
            f"--from {source} has no {parts[0]}/ beside {parts[0]}annot/, no"
            f" images/{parts[0]}/ beside labels/{parts[0]}/, and no {parts[0]}.txt"
        )
    return found


def samples(files: Sequence[Pair], card: Card | None) -> Iterator[Sample]:
    """Files as they are, after a look at whether they fit the card."""
    for image, mask in files:
        fields = {**image_field(image), MASK: image_field(mask).get("png", b"")}
        if card is not None:
            decode(card, fields, str(image))
        yield key_of(image), fields


def _part(source: Path, part: str) -> list[Pair]:
    images, labels = source / "images", source / "labels"
    if (source / part).is_dir() and (source / f"{part}annot").is_dir():
        files, masks = images_in(source / part), source / f"{part}annot"
    elif (images / part).is_dir():
        files, masks = images_in(images / part), labels / part
    elif images.is_dir() and (source / f"{part}.txt").is_file():
        words = [line.split()[0] for line in _lines(source / f"{part}.txt")]
        wanted = {Path(word).stem for word in words}
        files, masks = [path for path in images_in(images) if path.stem in wanted], labels
    else:
        return []
    return [(path, masks / f"{path.stem}.png") for path in files]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.strip()]
