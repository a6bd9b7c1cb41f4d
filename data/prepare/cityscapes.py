"""Cityscapes as it is unpacked: leftImg8bit/ and gtFine/ with a folder for each city."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data.cityscapes import CLASSES, LABEL_IDS, VOID
from data.decode import FORMATS
from data.prepare.layout import Prepared, image_field, images_in, key_of, shuffled
from data.shards import Sample
from data.writer import png

IMAGE, MASK = "_leftImg8bit", "_gtFine_labelIds"
TRAIN_IDS = np.full(256, VOID, np.uint8)
TRAIN_IDS[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))


def read(source: Path, name: str) -> Prepared:
    """Images stay the files they are; masks have the 19 classes, all else is void."""
    train, test = _images(source, "train"), _images(source, "val")
    train_samples = _samples(source, "train", shuffled(train, name))
    return Prepared(name, CLASSES, train_samples, _samples(source, "val", test))


def _images(source: Path, part: str) -> list[Path]:
    folder = source / "leftImg8bit" / part
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; unpack leftImg8bit_trainvaltest.zip")
    cities = sorted(path for path in folder.iterdir() if path.is_dir())
    return [path for city in cities for path in images_in(city)]


def _samples(source: Path, part: str, images: Sequence[Path]) -> Iterator[Sample]:
    for path in images:
        scene = path.stem.removesuffix(IMAGE)
        mask = source / "gtFine" / part / path.parent.name / f"{scene}{MASK}.png"
        ids = np.asarray(Image.open(io.BytesIO(image_field(mask)["png"]), formats=FORMATS))
        yield key_of(Path(scene)), {**image_field(path), "seg.png": png(TRAIN_IDS[ids])}
