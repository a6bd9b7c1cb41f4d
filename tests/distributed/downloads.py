"""Tiny data sets in the layouts in which the real ones are downloaded; their pixels are random."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sms_dist import data
from sms_dist.config import DataConfig
from sms_dist.data.prepare.writer import labelled, write

RANDOM = np.random.default_rng(0)
ATTRIBUTES = data.image_source(DataConfig(name="celeba"), "name").card.attributes
WORDS = ("the", "man", "dog", "house", "street", "woman", "red", "runs", "sees", "with", "two")
WORTE = ("der", "mann", "hund", "haus", "strasse", "frau", "rot", "rennt", "sieht", "mit", "zwei")


def photo(path: Path, height: int, width: int) -> Path:
    return _save(path, RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8))


def mask(path: Path, values: range, height: int, width: int) -> Path:
    return _save(path, RANDOM.choice(np.array(values, np.uint8), (height, width)))


def celeba(source: Path) -> None:
    names = [f"{i:06d}.jpg" for i in range(1, 49)]
    signs = RANDOM.choice([-1, 1], (len(names), len(ATTRIBUTES)))
    rows = [f"{name} {' '.join(map(str, row))}" for name, row in zip(names, signs, strict=True)]
    for name in names:
        photo(source / "img_align_celeba" / name, 218, 178)
    table = [str(len(names)), " ".join(ATTRIBUTES), *rows]
    (source / "list_attr_celeba.txt").write_text("\n".join(table))
    parts = [f"{name} {2 if i % 6 == 5 else i % 6 // 4}" for i, name in enumerate(names)]
    (source / "list_eval_partition.txt").write_text("\n".join(parts))


def imagenet(source: Path) -> None:
    """The same image a thousand times: there have to be as many classes."""
    image = photo(source / "val" / "ILSVRC2012_val_00000001.JPEG", 40, 50)
    others = [image.with_name(f"ILSVRC2012_val_{i:08d}.JPEG") for i in range(2, 9)]
    for wnid in (f"n{i:08d}" for i in range(1000)):
        others.append(source / "train" / wnid / f"{wnid}_1.JPEG")
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image.read_bytes())
    labels = [f"ILSVRC2012_val_{i:08d}.JPEG {7 * i}\n" for i in range(1, 9)]
    (source / "val.txt").write_text("".join(labels))


def cityscapes(source: Path) -> None:
    for part, city, count in (("train", "aachen", 16), ("train", "ulm", 16), ("val", "bonn", 6)):
        for i in range(count):
            scene = f"{city}_{i:06d}_000019"
            photo(source / "leftImg8bit" / part / city / f"{scene}_leftImg8bit.png", 80, 160)
            folder = source / "gtFine" / part / city
            mask(folder / f"{scene}_gtFine_labelIds.png", range(34), 80, 160)


def camvid(source: Path) -> None:
    for part, count in (("train", 24), ("val", 8), ("test", 6)):
        for i in range(count):
            photo(source / part / f"{part}_{i}.png", 90, 120)
            mask(source / f"{part}annot" / f"{part}_{i}.png", range(12), 90, 120)


def sentences(source: Path) -> None:
    """Word for word the same in both languages."""
    source.mkdir(parents=True)
    for split, count in (("train", 40), ("test", 6)):
        chosen = RANDOM.integers(0, len(WORDS), (count, 6))
        for language, words in (("en", WORDS), ("de", WORTE)):
            lines = [" ".join(words[i] for i in row) for row in chosen]
            (source / f"{split}.{language}").write_text("\n".join(lines))


DOWNLOADS: dict[str, Callable[[Path], None]] = {
    "celeba": celeba,
    "imagenet": imagenet,
    "cityscapes": cityscapes,
    "camvid": camvid,
    "multi30k": sentences,
    "wmt16": sentences,
}


def cifar_shards(name: str, target: Path) -> None:
    """Shards at once: of what is downloaded the checksums are known."""
    classes = data.described(DataConfig(name=name)).classes

    def samples(split: str, count: int):
        images = RANDOM.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        return labelled((f"{split}{i:06d}", image, i % 10) for i, image in enumerate(images))

    splits = {"train": samples("train", 40), "test": samples("test", 20)}
    write(target, name, classes, splits, 20, lambda line: None)


def leaves(target: Path) -> None:
    """Shards of one's own, of three classes, without an index."""
    target.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 32), ("test", 9)):
        with tarfile.open(target / f"leaves-{split}-000000.tar", "w") as tar:
            for i in range(count):
                image = photo(target.parent / "leaf.jpg", 40, 30)
                tar.add(image, f"{i:04d}.jpg")
                label = image.with_name("leaf.cls")
                label.write_text(str(i % 3))
                tar.add(label, f"{i:04d}.cls")


def _save(path: Path, pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
