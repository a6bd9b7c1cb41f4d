"""Folders of images: one for each class, or images beside their masks; with a card to go by.

Classes are train/<class>/ beside test/<class>/, or <class>/ alone, of which every tenth image is
for testing. Masks have the names of their images: train/ beside trainannot/, or images/train/
beside labels/train/, or images/ beside labels/ with the names of each part in train.txt and so on.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from pydantic import ValidationError

from sms_dist.config.file import one_line
from sms_dist.data.card import FILE, Card
from sms_dist.data.decode import FORMATS, decode, fit
from sms_dist.data.prepare.layouts import (
    Labelled,
    Prepared,
    by_folder,
    folders_in,
    image_field,
    images_in,
    key_of,
    shuffled,
)
from sms_dist.data.shards import Sample

TESTED = 10  # every so many-th image, where there is no division
VOID = 255
MASK = "seg.png"
LOOKED_AT = 500  # images, for a first card
CROPPED = (224, 224)  # where images differ in size
HEADER = """\
# What the samples in these shards are; docs/data.md explains the keys.
# Written by `sms-dist data prepare card`: look at size, fit and augment before training.
"""
Pair = tuple[Path, Path]  # image, mask


def pairs(source: Path, card: Card) -> Prepared:
    """Return images and masks as CamVid has them, training and validation scenes together.

    Each mask is one of the card's classes.
    """
    train = shuffled(_pairs(source, ("train", "val")), card.name)
    test = _pairs(source, ("test",))
    samples = _paired(train, card), _paired(test, card)
    return Prepared(card.name, card.class_names, *samples)


def own(source: Path, name: str) -> Prepared:
    """Return images of one's own with a first card for them; they stay the files they are."""
    has_pairs = (source / "trainannot").is_dir() or (source / "labels").is_dir()
    return _masks(source, name) if has_pairs else _classes(source, name)


def _classes(source: Path, name: str) -> Prepared:
    classes, train, test = _divided(source, name)
    facts = {"name": name, "classes": classes}
    card = _first_card(facts, lambda: _samples(train[:LOOKED_AT]))
    return Prepared(name, classes, _samples(train), _samples(test), {FILE: _text(card)})


def _masks(source: Path, name: str) -> Prepared:
    train = shuffled(_pairs(source, ("train", "val")), name)
    test = _pairs(source, ("test",))
    values = _values([*train, *test])
    facts: dict[str, Any] = {
        "name": name,
        "task": "segmentation",
        "target": MASK,
        "classes": max(values - {VOID}) + 1,
        "void": VOID if VOID in values else None,
    }
    card = _first_card(facts, lambda: _paired(train[:LOOKED_AT], None))
    pair = _paired(train, card), _paired(test, card)
    return Prepared(name, card.class_names, *pair, {FILE: _text(card)})


def _values(files: Sequence[Pair]) -> set[int]:
    """Return all values that occur in masks."""
    masks = (np.asarray(Image.open(mask, formats=FORMATS)) for _, mask in files)
    return {value for mask in masks for value in np.unique(mask).tolist()}


def _divided(source: Path, name: str) -> tuple[tuple[str, ...], list[Labelled], list[Labelled]]:
    """Return the names of the classes, training and test images."""
    root = source / "train"
    if root.is_dir():
        classes = _folders(root)
        others = [part for part in ("val", "test") if (source / part).is_dir()]
        if not others:
            raise ValueError(f"--from {source} has train/ but no test/ or val/")
        train = [pair for part in ("train", *others[:-1]) for pair in _of(source / part, classes)]
        return classes, shuffled(train, name), _of(source / others[-1], classes)
    classes = _folders(source)
    everything = shuffled(_of(source, classes), name)
    train = [pair for i, pair in enumerate(everything) if i % TESTED]
    return classes, train, everything[::TESTED]


def _folders(root: Path) -> tuple[str, ...]:
    names = folders_in(root)
    if len(names) < 2:
        raise ValueError(f"{root} needs a folder for each class, at least two, of PNG or JPEG")
    return tuple(names)


def _of(root: Path, classes: Sequence[str]) -> list[Labelled]:
    if strange := [name for name in folders_in(root) if name not in classes]:
        raise ValueError(f"{root / strange[0]}: there is no such class in the training images")
    return by_folder(root, classes)


def _samples(files: Sequence[Labelled]) -> Iterator[Sample]:
    """Yield numbered samples: images of several classes may have the same name."""
    for number, (path, label) in enumerate(files):
        yield f"{number:07d}", {**image_field(path), "cls": str(label).encode()}


def _pairs(source: Path, parts: Sequence[str]) -> list[Pair]:
    """Return the images and masks of the parts that are there, in turn."""
    files = [pair for part in parts for pair in _part(source, part)]
    if not files:
        raise ValueError(
            f"--from {source} has no {parts[0]}/ beside {parts[0]}annot/, no"
            f" images/{parts[0]}/ beside labels/{parts[0]}/, and no {parts[0]}.txt"
        )
    return files


def _paired(files: Sequence[Pair], card: Card | None) -> Iterator[Sample]:
    """Yield the files as they are, once it is sure that they fit the card."""
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
        lines = (source / f"{part}.txt").read_text().splitlines()
        wanted = {Path(line.split()[0]).stem for line in lines if line.strip()}
        files, masks = [path for path in images_in(images) if path.stem in wanted], labels
    else:
        return []
    return [(path, masks / f"{path.stem}.png") for path in files]


def _first_card(facts: Mapping[str, Any], samples: Callable[[], Iterable[Sample]]) -> Card:
    """Return a card with size, channels and normalisation of samples and a fitting augmentation.

    `samples` can be called repeatedly; one image is in memory at a time.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    modes = set()
    for _, fields in samples():
        with Image.open(io.BytesIO(next(iter(fields.values()))), formats=FORMATS) as image:
            sizes[image.size[1], image.size[0]] += 1
            modes.add(image.mode)
    channels = 1 if modes <= {"1", "L"} else 3
    values = {**facts, **_sizing(sizes, facts), "channels": channels}
    half = (0.5,) * channels
    try:
        unknown = Card(**values, mean=half, std=half)
    except ValidationError as error:
        raise ValueError(f"no card fits {facts['name']}: {one_line(error, Card)}") from None
    mean, std = _moments(unknown, samples())
    return unknown.model_copy(update={"mean": mean, "std": std})


def _text(card: Card) -> str:
    """Return the card as YAML, without defaults."""
    values = card.model_dump(mode="json", exclude_defaults=True)
    return HEADER + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)


def _sizing(sizes: Counter[tuple[int, int]], facts: Mapping[str, Any]) -> dict[str, Any]:
    (commonest, _), *_ = sizes.most_common(1)
    if facts.get("task") == "segmentation":
        augment = "flip" if facts["void"] is None else "scale_crop_flip"
        return {"size": commonest, "fit": "scale", "augment": augment}
    if len(sizes) == 1:
        return {"size": commonest, "fit": "exact", "augment": "flip"}
    return {"size": CROPPED, "fit": "crop", "augment": "random_resized_crop"}


def _moments(card: Card, samples: Iterable[Sample]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the pixels in [0, 1], per channel."""
    num_pixels, sums, squares = 0, np.zeros(card.channels), np.zeros(card.channels)
    for key, fields in samples:
        pixels = fit(card, decode(card, fields, key)).image / 255
        num_pixels += pixels[0].size
        sums += pixels.sum((1, 2))
        squares += (pixels**2).sum((1, 2))
    mean = sums / num_pixels
    std = np.sqrt(np.maximum(squares / num_pixels - mean**2, 1e-6))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())
