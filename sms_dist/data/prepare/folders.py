"""Folders of images: one for each class, or images beside their masks; with a card to go by.

Classes are train/<class>/ beside test/<class>/, or <class>/ alone, of which every tenth image is
for testing. Masks have the names of their images: train/ beside trainannot/, or images/train/
beside labels/train/, or images/ beside labels/ with the names of each part in train.txt and so on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from sms_dist.config.file import one_line
from sms_dist.data.card import FILE, Card
from sms_dist.data.decode import decode, fit, opened, stored_values
from sms_dist.data.prepare.layouts import (
    Labelled,
    Prepared,
    by_folder,
    folders_in,
    image_field,
    images_in,
    keys_of,
    others,
    shuffled,
)
from sms_dist.data.prepare.statistics import Statistics
from sms_dist.data.prepare.writer import png
from sms_dist.data.shards import Sample

TESTED = 10  # every so many-th image, where there is no division
PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
VOID = 255
MASK = "seg.png"
LOOKED_AT = 500  # images, for a first card
SMALLEST = 0.001  # standard deviation on a card: pixels are divided by it
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
    train, test = shuffled(_pairs(source, ("train", "val")), card.name), _pairs(source, ("test",))
    samples = _paired(train, card), _paired(test, card)
    taken = [path for pair in train + test for path in pair]
    roots = dict.fromkeys(source / path.relative_to(source).parts[0] for path in taken)
    return Prepared(card.name, card.class_names, *samples, others=others(roots, taken))


def own(source: Path, name: str) -> Prepared:
    """Return images of one's own with a first card for them; they stay the files they are."""
    has_pairs = (source / "trainannot").is_dir() or (source / "labels").is_dir()
    return _masks(source, name) if has_pairs else _classes(source, name)


def _classes(source: Path, name: str) -> Prepared:
    classes, train, test = _divided(source, name)
    facts = {"name": name, "classes": classes}
    card, notes = _first_card(facts, lambda: _samples(train[:LOOKED_AT]))
    left = others([source], [path for path, _ in train + test])
    samples, texts = (_samples(train), _samples(test)), {FILE: _text(card)}
    return Prepared(name, classes, *samples, texts, left, notes)


def _masks(source: Path, name: str) -> Prepared:
    train, test = shuffled(_pairs(source, ("train", "val")), name), _pairs(source, ("test",))
    values = _values(source, [*train, *test])
    is_binary = len(values) == 2  # such as 0 and 255, which then is no void
    used = [value for value in values if is_binary or value != VOID]
    count = 2 if is_binary else used[-1] + 1
    if len(used) * 2 < count or count > VOID:
        raise ValueError(
            f"the masks of --from {source} have the values {_listed(values)}; write them as 0, 1,"
            f" 2 and so on up to {VOID - 1}, and {VOID} for pixels without a class"
        )
    table = np.zeros(1 << 16, np.uint8) if is_binary and used != [0, 1] else None
    said = f"the values {_listed(values)} of the masks are {count} classes"
    if table is not None:
        table[used[1]] = 1
        said = f"the values {_listed(values)} of the masks are written as the classes 0 and 1"
    facts: dict[str, Any] = {
        "name": name,
        "task": "segmentation",
        "target": MASK,
        "classes": count,
        "void": VOID if len(used) < len(values) else None,
    }
    card, notes = _first_card(facts, lambda: _paired(train[:LOOKED_AT], None, table))
    notes.insert(0, said if facts["void"] is None else f"{said}, {VOID} is no class (void)")
    samples = _paired(train, card, table), _paired(test, card, table)
    lists = [source / f"{part}.txt" for part in ("train", "val", "test")]
    left = others([source], [*lists, *(path for pair in train + test for path in pair)])
    return Prepared(name, card.class_names, *samples, {FILE: _text(card)}, left, notes)


def _values(source: Path, files: Sequence[Pair]) -> list[int]:
    """Return all values that occur in masks, at least two; ValueError if a palette changes."""
    values: set[int] = set()
    colours: dict[int, tuple[list[int], Path]] = {}
    for _, path in files:
        mask, what = path.read_bytes(), f"{path} is a mask"
        image = opened(mask, what)
        there = np.unique(stored_values(image, mask, what)).tolist()
        palette = image.getpalette() if image.mode == "P" else None
        for value in there if palette else ():
            colour = (palette or [])[3 * value : 3 * value + 3]
            first, where = colours.setdefault(value, (colour, path))
            if colour != first:
                raise ValueError(
                    f"{path} and {where} have different colours for the value {value}; write masks"
                    " whose values mean the same in each, as grey or with one palette"
                )
        values.update(there)
    if len(values) < 2:
        raise ValueError(
            f"all pixels of the masks of --from {source} have the value {min(values)}; a card"
            " needs at least two classes"
        )
    return sorted(values)


def _listed(values: Sequence[int]) -> str:
    """Return the values as text: 0 to 11, 255."""
    starts = [v for v in values if v - 1 not in values]
    ends = [v for v in values if v + 1 not in values]
    runs = [str(a) if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True)]
    return ", ".join(runs if len(runs) < 10 else [*runs[:6], "...", runs[-1]])


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
    if parts := [name for name in classes if name.lower() in PARTS]:
        raise ValueError(
            f"{source / parts[0]} is a part of the set by its name, not a class; call the parts"
            " train/ and test/ (or val/), each with a folder for each class"
        )
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


def _paired(
    files: Sequence[Pair], card: Card | None, table: NDArray[np.uint8] | None = None
) -> Iterator[Sample]:
    """Yield the files as they are, once it is sure that they fit the card.

    With a table, masks are written anew with the classes that it has for their values.
    """
    keys = keys_of([image for image, _ in files])
    for key, (image, path) in zip(keys, files, strict=True):
        (mask,) = image_field(path).values()
        if table is not None:
            what = f"{path} is a mask"
            mask = png(table[stored_values(opened(mask, what), mask, what)])
        fields = {**image_field(image), MASK: mask}
        if card is not None:
            decode(card, fields, str(image))
        yield key, fields


def _part(source: Path, part: str) -> list[Pair]:
    """Return the images of a part that have a mask of their name, with it."""
    images, labels = source / "images", source / "labels"
    if (source / part).is_dir() and (source / f"{part}annot").is_dir():
        files, folder = images_in(source / part), source / f"{part}annot"
    elif (images / part).is_dir():
        files, folder = images_in(images / part), labels / part
    elif images.is_dir() and (source / f"{part}.txt").is_file():
        lines = (source / f"{part}.txt").read_text().splitlines()
        wanted = {Path(line.split()[0]).stem for line in lines if line.strip()}
        files, folder = [path for path in images_in(images) if path.stem in wanted], labels
        if missing := sorted(wanted - {path.stem for path in files}):
            raise ValueError(f"{source / part}.txt names {missing[0]}, which is not in {images}")
    else:
        return []
    stems = [path.stem for path in files]
    if twice := next((stem for stem, times in Counter(stems).items() if times > 1), None):
        raise ValueError(f"{files[0].parent} has several images called {twice}; leave one of them")
    masks = {path.stem: path for path in images_in(folder)}  # .png comes last
    if not (pairs := [(path, masks[path.stem]) for path in files if path.stem in masks]):
        raise ValueError(f"{folder} has no mask with the name of an image in {files[0].parent}")
    return pairs


def _first_card(
    facts: Mapping[str, Any], samples: Callable[[], Iterable[Sample]]
) -> tuple[Card, list[str]]:
    """Return a card with size, channels and normalisation of samples and a fitting augmentation.

    And what people should know of the images. `samples` can be called repeatedly; one image is in
    memory at a time.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    modes = set()
    for key, fields in samples():
        image = opened(next(iter(fields.values())), f"{key} is an image")
        sizes[image.size[1], image.size[0]] += 1
        modes.add(image.mode)
    channels = 1 if modes <= {"1", "L", "LA", "I;16"} else 3
    values = {**facts, **_sizing(sizes, facts), "channels": channels}
    half = (0.5,) * channels
    try:
        unknown = Card(**values, mean=half, std=half)
    except ValidationError as error:
        raise ValueError(f"no card fits {facts['name']}: {one_line(error, Card)}") from None
    statistics = Statistics(channels)
    for key, fields in samples():
        sample = fit(unknown, decode(unknown, fields, key))
        statistics.add(sample.image, next(iter(fields.values())))
    mean, std = (tuple(np.round(each, 4).tolist()) for each in statistics.moments)
    std = tuple(max(each, SMALLEST) for each in std)
    return unknown.model_copy(update={"mean": mean, "std": std}), statistics.notes()


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
