"""One's own images: a folder for each class, or CamVid-like pairs; with a card to go by.

Either train/<class>/ beside test/<class>/, or <class>/ alone, of which every tenth is for testing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.card import FILE
from data.decode import FORMATS
from data.prepare import camvid
from data.prepare.first_card import LOOKED_AT, first_card, text
from data.prepare.layout import Prepared, image_field, images_in, shuffled
from data.shards import Sample

TESTED = 10
VOID = 255
Labelled = tuple[Path, int]


def read(source: Path, name: str) -> Prepared:
    """Images stay the files they are."""
    return _masks(source, name) if camvid.has_pairs(source) else _classes(source, name)


def _classes(source: Path, name: str) -> Prepared:
    classes, train, test = _divided(source, name)
    facts = {"name": name, "classes": classes}
    card = first_card(facts, lambda: _samples(train[:LOOKED_AT]))
    return Prepared(name, classes, _samples(train), _samples(test), {FILE: text(card)})


def _masks(source: Path, name: str) -> Prepared:
    train = shuffled(camvid.pairs(source, ("train", "val")), name)
    test = camvid.pairs(source, ("test",))
    values = _values([*train, *test])
    facts: dict[str, Any] = {
        "name": name,
        "task": "segmentation",
        "target": camvid.MASK,
        "classes": max(values - {VOID}) + 1,
        "void": VOID if VOID in values else None,
    }
    card = first_card(facts, lambda: camvid.samples(train[:LOOKED_AT], None))
    pair = camvid.samples(train, card), camvid.samples(test, card)
    return Prepared(name, card.class_names, *pair, {FILE: text(card)})


def _values(files: Sequence[camvid.Pair]) -> set[int]:
    """All that occur in masks."""
    found = np.zeros(256, bool)
    for _, mask in files:
        found[np.asarray(Image.open(mask, formats=FORMATS)).ravel()] = True
    return set(np.flatnonzero(found).tolist())


def _divided(source: Path, name: str) -> tuple[tuple[str, ...], list[Labelled], list[Labelled]]:
    """Names of the classes, training and test images."""
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
    names = sorted(path.name for path in root.iterdir() if path.is_dir())
    if len(names) < 2:
        raise ValueError(f"{root} needs a folder for each class, at least two, of PNG or JPEG")
    return tuple(names)


def _of(root: Path, classes: Sequence[str]) -> list[Labelled]:
    strange = sorted(path.name for path in root.iterdir() if path.is_dir())
    strange = [name for name in strange if name not in classes]
    if strange:
        raise ValueError(f"{root / strange[0]}: there is no such class in the training images")
    return [(path, label) for label, name in enumerate(classes) for path in images_in(root / name)]


def _samples(files: Sequence[Labelled]) -> Iterator[Sample]:
    """Numbered: images of several classes may have the same name."""
    for number, (path, label) in enumerate(files):
        yield f"{number:07d}", {**image_field(path), "cls": str(label).encode()}
