"""CIFAR out of the folder that torchvision unpacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data.card import SplitName
from data.cifar import CLASSES, CLASSES_100, FOLDERS, from_torchvision, is_torchvision
from data.prepare.layout import Prepared
from data.shards import Sample
from data.writer import labelled


def read(source: Path, name: str) -> Prepared:
    """cifar-10-batches-py/ or cifar-100-python/, or the folder that holds it."""
    if not is_torchvision(name, source):
        raise ValueError(f"--from {source} holds no {FOLDERS[name]} and no shards of {name}")
    classes = CLASSES if name == "cifar10" else CLASSES_100
    train, test = _samples(source, name, "train"), _samples(source, name, "test")
    return Prepared(name, tuple(classes.split()), train, test)


def _samples(source: Path, name: str, split: SplitName) -> Iterator[Sample]:
    stored = from_torchvision(name, source, split)
    return labelled((key, sample.image, int(sample.target)) for key, sample in stored)
