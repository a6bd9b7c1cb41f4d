"""Handwritten digits as shards, for trials of the streaming loader and its workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from sms_dist.data.prepare.writer import labelled, write

NUM_TRAIN = 1437
CARD = """
name: digit_shards
size: [8, 8]
fit: exact
channels: 1
classes: 10
mean: [0.3]
std: [0.37]
"""


def write_digits(folder: Path) -> None:
    """Shards and their card.yaml, in a new folder."""
    classes = [str(digit) for digit in range(10)]
    splits = {"train": labelled(_samples("train")), "test": labelled(_samples("test"))}
    write(folder, "digit_shards", classes, splits, 500, lambda line: None, {"card.yaml": CARD})


def _samples(split: str) -> Iterator[tuple[str, np.ndarray, int]]:
    """Key, image as 1 x 8 x 8 bytes, class."""
    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[:, None]
    numbers = range(NUM_TRAIN) if split == "train" else range(NUM_TRAIN, len(images))
    for number in numbers:
        yield f"{number:05d}", images[number], int(digits.target[number])
