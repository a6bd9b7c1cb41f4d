"""Turns a data set, in the layout in which it is downloaded, into shards with an index."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from data import card_source, index
from data.card import FILE, Card, SplitName
from data.carded import wanted_shards
from data.decode import decode
from data.prepare import camvid, celeba, cifar, cityscapes, folders, imagenet
from data.prepare.layout import Layout, Prepared
from data.shards import Sample, read_all
from data.writer import Progress, write
from sms_dist.config import DataConfig
from sms_dist.lookup import lookup

LAYOUTS: dict[str, Layout] = {
    "cifar10": Layout(cifar.read, samples_per_shard=5000),
    "cifar100": Layout(cifar.read, samples_per_shard=5000),
    "imagenet": Layout(imagenet.read, samples_per_shard=1000),
    "celeba": Layout(celeba.read, samples_per_shard=5000),
    "cityscapes": Layout(cityscapes.read, samples_per_shard=100),
    "camvid": Layout(camvid.read, samples_per_shard=500),
    "card": Layout(folders.read, samples_per_shard=1000),
}


def prepare(
    name: str,
    source: Path,
    target: Path,
    samples_per_shard: int | None = None,
    progress: Progress = print,
) -> None:
    """Writes `target` out of what was downloaded, or out of shards; refuses to overwrite."""
    layout = lookup(LAYOUTS, name, "name")
    if samples_per_shard is None:
        samples_per_shard = layout.samples_per_shard
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard={samples_per_shard} must be at least 1")
    if not source.is_dir():
        raise ValueError(f"--from {source} is no folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not an empty folder; name another one or remove it first")
    found = _of_shards(name, source) or layout.read(source, _name(name, target))
    splits: dict[SplitName, Iterable[Sample]] = {"train": found.train, "test": found.test}
    write(target, found.name, found.classes, splits, samples_per_shard, progress, found.texts)


def _name(name: str, target: Path) -> str:
    """Of the data set; that of one's own is the name of its new folder."""
    if name != "card":
        return name
    return re.sub(r"[^\w.+-]", "_", target.resolve().name).lstrip(".+-") or "images"


def _of_shards(name: str, source: Path) -> Prepared | None:
    """None where there are none: archives beside unpacked folders are what was downloaded."""
    files = list(source.iterdir())
    has_shards = any(path.name.endswith(index.ENDINGS) for path in files)
    if not has_shards or any(path.is_dir() for path in files):
        return None
    entry = card_source(name, "name")
    card = entry.card(DataConfig(name=name, path=str(source)))
    classes = () if entry.is_chosen else index.facts(card, source).classes
    texts = {FILE: (source / FILE).read_text()} if name == "card" else {}
    train, test = _decodable(card, source, "train"), _decodable(card, source, "test")
    return Prepared(card.name, classes, train, test, texts)


def _decodable(card: Card, folder: Path, split: SplitName) -> Iterator[Sample]:
    """Unchanged, but each is what the card says."""
    for path, (key, fields) in read_all(wanted_shards(card, folder, split)):
        decode(card, fields, f"{path}: sample {key}")
        yield key, fields
