"""Layouts in which CIFAR, CelebA, Cityscapes and ImageNet are downloaded, and what all share."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sms_dist.data.card import SPLITS, Card, SplitName
from sms_dist.data.decode import MAGIC, opened, other_format, stored_values
from sms_dist.data.images import from_torchvision, is_torchvision
from sms_dist.data.index import is_hidden
from sms_dist.data.prepare.writer import labelled, png
from sms_dist.data.shards import Sample

IMAGES = (".jpg", ".jpeg", ".png")
T = TypeVar("T")
Labelled = tuple[Path, int]
FOLDERS = (".", "Anno", "Eval", "Img", "celeba")  # of CelebA's archives
TEST = 2  # in CelebA's list of the division: 0 train, 1 validation, 2 test
ROOTS = (".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # of ImageNet's folders, as on Kaggle
KIT = "ILSVRC2012_devkit_t12/data"
SCENE, LABEL_IDS = "_leftImg8bit", "_gtFine_labelIds.png"  # ends of names in Cityscapes
LISTS = ("LOC_val_solution.csv", "val.txt", f"{KIT}/ILSVRC2012_validation_ground_truth.txt")


class Prepared(NamedTuple):
    """A data set that is to be written. Samples are read as they are written, one at a time."""

    name: str
    classes: tuple[str, ...]  # none where they depend on the configuration
    train: Iterable[Sample]
    test: Iterable[Sample]
    texts: Mapping[str, str] = {}  # further files
    others: Sequence[str] = ()  # files that are not taken; hidden ones do not count
    notes: Sequence[str] = ()  # what people should know


def first_of(source: Path, names: Sequence[str], what: str) -> Path:
    """Return the first of `names` that is in `source`; `what` says what is not, if none is."""
    for name in names:
        if (source / name).exists():
            return source / name
    raise ValueError(f"--from {source} has no {what}")


def images_in(folder: Path) -> list[Path]:
    """Return the image files in the order of their names; ValueError where there are none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    paths = (path for path in folder.iterdir() if not is_hidden(path.name))
    files = sorted(path for path in paths if path.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"{folder} holds no images ({', '.join(IMAGES)})")
    return files


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones."""
    paths = (path for path in folder.iterdir() if not is_hidden(path.name))
    return sorted(path.name for path in paths if path.is_dir())


def others(roots: Iterable[Path], taken: Iterable[Path]) -> list[str]:
    """Return the files in these folders, however deep, that are neither taken nor hidden."""
    known, visited, paths = {str(path) for path in taken}, set(), []
    for folder, folders, files in chain.from_iterable(
        os.walk(root, followlinks=True) for root in roots
    ):
        is_new = (real := os.path.realpath(folder)) not in visited  # links may go in circles
        visited.add(real)
        folders[:] = sorted(name for name in folders if is_new and not is_hidden(name))
        there = (os.path.join(folder, name) for name in sorted(files) if not is_hidden(name))
        paths += [path for path in there if is_new and path not in known]
    return paths


def by_folder(root: Path, classes: Sequence[str]) -> list[Labelled]:
    """Return the images of a folder for each class, with the number of the class."""
    return [(path, label) for label, name in enumerate(classes) for path in images_in(root / name)]


def image_field(path: Path) -> dict[str, bytes]:
    """Return the bytes of an image under the extension of their format, whatever its name says."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    data = path.read_bytes()
    for magic, extension in MAGIC.items():
        if data.startswith(magic):
            return {extension: data}
    form = other_format(data)
    advice = f"it is {form}; convert it to one" if form else "copy it again"
    raise ValueError(f"{path} is no JPEG or PNG image; {advice}")


def key_of(path: Path) -> str:
    """Return the key of a sample: the name of its file, whose dots would begin the extension."""
    return path.stem.replace(".", "_")


def keys_of(paths: Sequence[Path]) -> list[str]:
    """Return a key for each file, with a number where several have the same name."""
    keys = [key_of(path) for path in paths]
    times = Counter(keys)
    return [key if times[key] == 1 else f"{key}-{i:07d}" for i, key in enumerate(keys)]


def shuffled(items: Sequence[T], purpose: str) -> list[T]:
    """Return the items in an order that is always the same: shards hold some of everything."""
    from sms_dist.base.randomness import stream

    order = stream(0, f"order of shards {purpose}").permutation(len(items))
    return [items[i] for i in order.tolist()]


def torchvision(source: Path, card: Card) -> Prepared:
    """Return CIFAR out of the folder that torchvision unpacks, or the folder that holds it."""
    if not is_torchvision(card, source):
        folder = card.download.folder if card.download else None
        raise ValueError(f"--from {source} holds no {folder} and no shards of {card.name}")
    train, test = (labelled(_numbered(card, source, split)) for split in SPLITS)
    return Prepared(card.name, card.class_names, train, test)


def _numbered(
    card: Card, source: Path, split: SplitName
) -> Iterator[tuple[str, NDArray[np.uint8], int]]:
    for number, (image, target, _) in enumerate(from_torchvision(card, source, split)):
        assert isinstance(target, int)
        yield f"{split}{number:06d}", image, target


def celeba(source: Path, card: Card) -> Prepared:
    """Return img_align_celeba/ with all attributes, training and validation images together.

    The lists may be the official .txt or Kaggle's .csv files.
    """
    images = first_of(source, [f"{f}/img_align_celeba" for f in FOLDERS], "img_align_celeba/")
    nested = images / "img_align_celeba"
    images = nested if nested.is_dir() else images
    attributes, rows = _table(source, "list_attr_celeba")
    if tuple(attributes) != card.attributes:
        raise ValueError(
            f"--from {source}: list_attr_celeba does not have the {len(card.attributes)} attributes"
        )
    _, parts = _table(source, "list_eval_partition")
    if rows.keys() != parts.keys():
        raise ValueError(
            f"--from {source}: list_attr_celeba names {len(rows)} images, list_eval_partition"
            f" {len(parts)}, and not the same ones; download both again"
        )
    train = shuffled([file for file in rows if parts[file] != [TEST]], card.name)
    test = [file for file in rows if parts[file] == [TEST]]
    train_samples, test_samples = (
        _with_attributes(images, files, attributes, rows) for files in (train, test)
    )
    left = others([images], [images / Path(file).name for file in rows])
    return Prepared(card.name, (), train_samples, test_samples, others=left)


def _with_attributes(
    images: Path, files: Sequence[str], attributes: Sequence[str], rows: dict[str, list[int]]
) -> Iterator[Sample]:
    for file in files:
        path = images / Path(file).name
        values = {name: int(v > 0) for name, v in zip(attributes, rows[file], strict=True)}
        yield key_of(path), {**image_field(path), "json": json.dumps(values).encode()}


def _table(source: Path, name: str) -> tuple[list[str], dict[str, list[int]]]:
    """Return the names of the columns, if there are any, and the numbers of each image."""
    names = [f"{folder}/{name}.{ending}" for ending in ("txt", "csv") for folder in FOLDERS]
    path = first_of(source, names, f"{name}.txt")
    lines = [line.replace(",", " ").split() for line in path.read_text().splitlines()]
    header: list[str] = []
    rows: dict[str, list[int]] = {}
    for line in lines:
        if len(line) > 1 and line[0].lower().endswith(".jpg"):
            rows[line[0]] = _numbers(line[1:], path)
        elif len(line) > 1:  # a line of one word is the number of images
            header = [word for word in line if word != "image_id"]
    if not rows:
        raise ValueError(f"{path} names no images")
    return header, rows


def _numbers(words: Sequence[str], path: Path) -> list[int]:
    try:
        return [int(word) for word in words]
    except ValueError:
        raise ValueError(f"{path}: {' '.join(words)[:60]!r} are no numbers") from None


def cityscapes(source: Path, card: Card) -> Prepared:
    """Return leftImg8bit/ and gtFine/ as they are unpacked, with a folder for each city.

    Images stay the files they are; masks have the card's classes, all else is void.
    """
    label_ids = card.download.label_ids if card.download else ()
    if len(label_ids) != card.num_classes or card.void is None:
        raise ValueError(
            f"the card of {card.name} needs void, and download.label_ids for each class"
        )
    classes = np.full(1 << 16, card.void, np.uint8)
    classes[list(label_ids)] = np.arange(card.num_classes)
    train, test = shuffled(_scenes(source, "train"), card.name), _scenes(source, "val")
    files = ("train", train), ("val", test)
    samples = (
        _with_masks(source, "train", train, classes),
        _with_masks(source, "val", test, classes),
    )
    roots = [source / kind / part for kind in ("leftImg8bit", "gtFine") for part, _ in files]
    taken = [
        *train,
        *test,
        *(_mask_of(source, part, path) for part, paths in files for path in paths),
    ]
    left = [
        path for path in others(roots, taken) if "gtFine" not in path or path.endswith(LABEL_IDS)
    ]
    return Prepared(card.name, card.class_names, *samples, others=left)


def _scenes(source: Path, part: str) -> list[Path]:
    folder = source / "leftImg8bit" / part
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; unpack leftImg8bit_trainvaltest.zip")
    return [path for city in folders_in(folder) for path in images_in(folder / city)]


def _mask_of(source: Path, part: str, image: Path) -> Path:
    name = image.stem.removesuffix(SCENE) + LABEL_IDS
    return source / "gtFine" / part / image.parent.name / name


def _with_masks(
    source: Path, part: str, images: Sequence[Path], classes: NDArray[np.uint8]
) -> Iterator[Sample]:
    for path in images:
        mask = _mask_of(source, part, path)
        data = image_field(mask).get("png", b"")
        ids = stored_values(opened(data, f"{mask} is a mask"), data, f"{mask} is a mask")
        yield (
            key_of(Path(path.stem.removesuffix(SCENE))),
            {**image_field(path), "seg.png": png(classes[ids])},
        )


def imagenet(source: Path, card: Card) -> Prepared:
    """Return ImageNet as it is unpacked: train/<wnid>/*.JPEG, and val/<wnid>/ or all of val/.

    Where val/ has no folders, the classes come from what lies beside it: Kaggle's
    LOC_val_solution.csv, the development kit, or a val.txt with a file and its wnid (or number) in
    each line. Images stay the files they are.
    """
    root = first_of(
        source, [f"{root}/train" for root in ROOTS], "train/ with a folder for each class"
    ).parent
    wnids = folders_in(root / "train")
    if len(wnids) != card.num_classes:
        raise ValueError(
            f"{root / 'train'} has {len(wnids)} folders of classes, not {card.num_classes};"
            " for another set of images write `sms-dist data prepare card`"
        )
    train, test = by_folder(root / "train", wnids), _validation(source, root, wnids)
    names = _class_names(source, wnids)
    samples = _with_classes(shuffled(train, card.name)), _with_classes(test)
    lists = [root / "val" / name for name in LISTS]
    left = others((root / "train", root / "val"), [*(path for path, _ in train + test), *lists])
    return Prepared(card.name, names, *samples, others=left)


def _with_classes(files: Sequence[Labelled]) -> Iterator[Sample]:
    for key, (path, label) in zip(keys_of([path for path, _ in files]), files, strict=True):
        yield key, {**image_field(path), "cls": str(label).encode()}


def _validation(source: Path, root: Path, wnids: Sequence[str]) -> list[Labelled]:
    folder = root / "val"
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    if folders_in(folder):
        return by_folder(folder, wnids)
    labels = _labels(source, root, wnids)
    files = images_in(folder)
    missing = [path.name for path in files if path.stem not in labels]
    if missing:
        raise ValueError(
            f"{folder}: the classes of {len(missing)} images are not known, among them {missing[0]}"
        )
    return [(path, labels[path.stem]) for path in files]


def _labels(source: Path, root: Path, wnids: Sequence[str]) -> dict[str, int]:
    """Return the class of each image in val/, by its name without the ending."""
    known = [folder / name for name in LISTS for folder in (source, root, root / "val")]
    path = next((path for path in known if path.is_file()), None)
    if path is None:
        raise ValueError(
            f"{root / 'val'} has no folders of classes, and {source} none of {', '.join(LISTS)}"
        )
    lines = path.read_text().split("\n")
    if path.name.startswith("ILSVRC"):
        pairs = _of_kit(path.parent, lines)
    else:
        words = (line.replace(",", " ").split() for line in lines)
        pairs = ((row[0].partition(".")[0], row[1]) for row in words if len(row) > 1)
    classes = {wnid: label for label, wnid in enumerate(wnids)}
    classes |= {str(label): label for label in range(len(wnids))}  # val.txt of Caffe
    return {Path(name).name: classes[word] for name, word in pairs if word in classes}


def _of_kit(folder: Path, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name and wnid of each image; the kit's numbers are not those of sorted wnids."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    synsets = loadmat(folder / "meta.mat", squeeze_me=True)["synsets"]
    wnids = {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets}
    numbers = (int(line) for line in lines if line.strip())
    for place, number in enumerate(numbers, start=1):
        yield f"ILSVRC2012_val_{place:08d}", wnids[number]


def _class_names(source: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """Return the first word of each synset, if Kaggle's list of them is there; else the wnids."""
    path = source / "LOC_synset_mapping.txt"
    if not path.is_file():
        return tuple(wnids)
    lines = (line.partition(" ") for line in path.read_text().splitlines())
    words = {wnid: text.partition(",")[0].strip() for wnid, _, text in lines}
    names = [words.get(wnid, wnid) for wnid in wnids]
    times = Counter(names)  # there are two cranes
    return tuple(
        name if times[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(names, wnids, strict=True)
    )
