"""Turns a set of images, in the layout in which it is downloaded, into shards with an index."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sms_dist.base.files import sha256_of
from sms_dist.base.lookup import lookup
from sms_dist.config import DataConfig
from sms_dist.data import image_source, index, shards
from sms_dist.data.card import FILE, OWN, Card, SplitName
from sms_dist.data.decode import decode
from sms_dist.data.images import ImageFiles
from sms_dist.data.index import ShardFacts, Splits
from sms_dist.data.prepare.folders import own, pairs
from sms_dist.data.prepare.imagenet import imagenet
from sms_dist.data.prepare.layouts import Prepared, celeba, cityscapes, torchvision
from sms_dist.data.shards import Sample, read_all
from sms_dist.data.writer import Progress, write, write_index

# What a card's `download.layout` names: each lists what lies in a downloaded folder.
LAYOUTS: dict[str, Callable[[Path, Card], Prepared]] = {
    "torchvision": torchvision,
    "celeba": celeba,
    "cityscapes": cityscapes,
    "imagenet": imagenet,
    "pairs": pairs,
}
SAMPLES_PER_SHARD = 1000  # of images of one's own


def prepare(
    name: str,
    source: Path,
    target: Path,
    samples_per_shard: int | None = None,
    progress: Progress = print,
) -> None:
    """Write `target` out of what was downloaded, or out of shards; refuses to overwrite."""
    card = None if name == OWN else image_source(DataConfig(name=name), "name").card
    download = card.download if card else None
    if samples_per_shard is None:
        samples_per_shard = download.samples_per_shard if download else SAMPLES_PER_SHARD
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard={samples_per_shard} must be at least 1")
    if not source.is_dir():
        raise ValueError(f"--from {source} is no folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not an empty folder; name another one or remove it first")
    found = _of_shards(name, source)
    if found is None:
        found = own(source, _own_name(target)) if card is None else _downloaded(card, source)
    splits: dict[SplitName, Iterable[Sample]] = {"train": found.train, "test": found.test}
    write(target, found.name, found.classes, splits, samples_per_shard, progress, found.texts)


def write_missing(folder: Path, name: str, progress: Progress) -> None:
    """Write index.json for shards that something else has written; every sample is looked at."""
    config = DataConfig(name=name, path=str(folder))
    if (folder / index.FILE).exists():
        raise ValueError(f"{folder / index.FILE} is there already; remove it first")
    source = image_source(config, "--name")
    card = source.configured(config)
    found: dict[SplitName, list[ShardFacts]] = {"train": [], "test": []}
    for split, listed in found.items():
        for path, _ in index.shards(card, folder, split):
            count = 0
            for key, fields in shards.read(path):
                decode(card, fields, f"{path}: sample {key}")
                count += 1
            listed.append(ShardFacts(file=path.name, samples=count, sha256=sha256_of(path)))
            progress(f"{path.name}: {count} samples")
    write_index(folder, card.name, _classes(source, card.class_names), Splits(**found))


def _downloaded(card: Card, source: Path) -> Prepared:
    if card.download is None:
        raise ValueError(
            f"the card of {card.name} has no download.layout; add one of {', '.join(LAYOUTS)}"
        )
    layout = lookup(LAYOUTS, card.download.layout, f"the card of {card.name}: download.layout")
    return layout(source, card)


def _own_name(target: Path) -> str:
    """The name of its new folder."""
    return re.sub(r"[^\w.+-]", "_", target.resolve().name).lstrip(".+-") or "images"


def _of_shards(name: str, folder: Path) -> Prepared | None:
    """None where there are none: archives beside unpacked folders are what was downloaded."""
    files = list(folder.iterdir())
    has_shards = any(path.name.endswith(index.ENDINGS) for path in files)
    if not has_shards or any(path.is_dir() for path in files):
        return None
    config = DataConfig(name=name, path=str(folder))
    source = image_source(config, "name")
    card = source.configured(config)
    classes = _classes(source, index.facts(card, folder).classes)
    texts = {FILE: (folder / FILE).read_text()} if name == OWN else {}
    train, test = _decodable(card, folder, "train"), _decodable(card, folder, "test")
    return Prepared(card.name, classes, train, test, texts)


def _classes(source: ImageFiles, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of an index: none where they depend on data.target."""
    return () if source.card.attributes else names


def _decodable(card: Card, folder: Path, split: SplitName) -> Iterator[Sample]:
    """Unchanged, but each is what the card says."""
    for path, (key, fields) in read_all(index.shards(card, folder, split)):
        decode(card, fields, f"{path}: sample {key}")
        yield key, fields
