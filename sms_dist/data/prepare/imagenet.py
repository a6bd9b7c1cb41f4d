"""ImageNet as it is unpacked: train/<wnid>/*.JPEG, and val/<wnid>/ or all of val/ in one folder.

For the latter the classes come from what lies beside it: Kaggle's LOC_val_solution.csv, the
development kit, or a val.txt with a file and its wnid (or number) in each line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sms_dist.data.card import Card
from sms_dist.data.prepare.layouts import (
    Prepared,
    first_of,
    image_field,
    images_in,
    key_of,
    shuffled,
)
from sms_dist.data.shards import Sample

ROOTS = (".", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC")  # of train/ and val/, the latter Kaggle's
KIT = "ILSVRC2012_devkit_t12/data"
Labelled = tuple[Path, int]


def imagenet(source: Path, card: Card) -> Prepared:
    """Return the images, which stay the files they are."""
    root = first_of(
        source, [f"{root}/train" for root in ROOTS], "train/ with a folder for each class"
    ).parent
    wnids = _folders(root / "train")
    if len(wnids) != card.num_classes:
        raise ValueError(
            f"{root / 'train'} has {len(wnids)} folders of classes, not {card.num_classes};"
            " for another set of images write `sms-dist data prepare card`"
        )
    train, test = list(_by_folder(root / "train", wnids)), _validation(source, root, wnids)
    names = _class_names(source, wnids)
    return Prepared(card.name, names, _samples(shuffled(train, card.name)), _samples(test))


def _folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _by_folder(folder: Path, wnids: Sequence[str]) -> Iterator[Labelled]:
    for label, wnid in enumerate(wnids):
        yield from ((path, label) for path in images_in(folder / wnid))


def _samples(files: Iterable[Labelled]) -> Iterator[Sample]:
    for path, label in files:
        yield key_of(path), {**image_field(path), "cls": str(label).encode()}


def _validation(source: Path, root: Path, wnids: Sequence[str]) -> list[Labelled]:
    folder = root / "val"
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder")
    if _folders(folder):
        return list(_by_folder(folder, wnids))
    labels = _labels(source, root, wnids)
    files = images_in(folder)
    missing = [path.name for path in files if path.stem not in labels]
    if missing:
        raise ValueError(
            f"{folder}: the classes of {len(missing)} images are not known, among them {missing[0]}"
        )
    return [(path, labels[path.stem]) for path in files]


def _labels(source: Path, root: Path, wnids: Sequence[str]) -> dict[str, int]:
    """Name of each image in val/, without its ending -> class."""
    names = ("LOC_val_solution.csv", "val.txt", f"{KIT}/ILSVRC2012_validation_ground_truth.txt")
    known = [folder / name for name in names for folder in (source, root, root / "val")]
    path = next((path for path in known if path.is_file()), None)
    if path is None:
        raise ValueError(
            f"{root / 'val'} has no folders of classes, and {source} none of {', '.join(names)}"
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
    """Numbers of the kit, which are not those of the sorted wnids, become wnids by its meta.mat."""
    from scipy.io import loadmat  # type: ignore[import-untyped]

    synsets = loadmat(folder / "meta.mat", squeeze_me=True)["synsets"]
    wnids = {int(entry["ILSVRC2012_ID"]): str(entry["WNID"]) for entry in synsets}
    numbers = (int(line) for line in lines if line.strip())
    for place, number in enumerate(numbers, start=1):
        yield f"ILSVRC2012_val_{place:08d}", wnids[number]


def _class_names(source: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """The first word of each synset, if Kaggle's list of them is there; else the wnids."""
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
