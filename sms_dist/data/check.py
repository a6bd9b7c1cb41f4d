"""Reads every sample of a folder of shards and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sms_dist.base.files import sha256_of
from sms_dist.config import DataConfig
from sms_dist.data import image_source, index, shards
from sms_dist.data.card import FILE, OWN, SPLITS, Card, SplitName
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.decode import Decoded, decode

MAX_PROBLEMS = 20


@dataclass
class Findings:
    """`histogram` counts samples (of masks: pixels) of each class, void last."""

    info: DatasetInfo
    card: Card
    has_index: bool
    problems: list[str] = field(default_factory=list)
    counts: dict[SplitName, int] = field(default_factory=dict)
    histogram: dict[SplitName, NDArray[np.int64]] = field(default_factory=dict)
    pictures: list[tuple[str, Decoded]] = field(default_factory=list)


def check(folder: Path, name: str | None = None, num_pictures: int = 0) -> Findings:
    """Check counts, checksums, images and labels; ValueError where there is nothing to check.

    Without a name it is the one in index.json, or `card` where there is a card.yaml.
    `num_pictures` samples are kept, evenly out of all training samples.
    """
    config = DataConfig(name=name or _name(folder), path=str(folder))
    source = image_source(config, "--name")
    found = Findings(
        source.facts(config), source.configured(config), has_index=index.read(folder) is not None
    )
    for split in SPLITS:
        _check_split(folder, split, found, num_pictures if split == "train" else 0)
    return found


def _name(folder: Path) -> str:
    if (folder / FILE).is_file():
        return OWN
    name = index.name_of(folder)
    if name is None:
        raise ValueError(
            f"{folder} has no {index.FILE} and no {FILE}; say with --name which data set it is"
        )
    return name


def _check_split(folder: Path, split: SplitName, found: Findings, num_pictures: int) -> None:
    wanted = found.info.num_train if split == "train" else found.info.num_test
    every = max(1, wanted // num_pictures) if num_pictures else 0
    found.counts[split] = 0
    found.histogram[split] = np.zeros(found.card.num_classes + 1, np.int64)
    for place, sample in _samples(folder, split, found):
        if every and found.counts[split] % every == 0 and len(found.pictures) < num_pictures:
            found.pictures.append((_caption(sample, found.info, place), sample))
        found.counts[split] += 1
        found.histogram[split] += _classes(sample, found.card)
    if not found.problems and found.counts[split] != wanted:
        found.problems.append(f"{folder}: {split} has {found.counts[split]} samples, not {wanted}")


def _samples(folder: Path, split: SplitName, found: Findings) -> Iterator[tuple[str, Decoded]]:
    """Those without a problem; each problem is noted."""
    known = index.read(folder)
    hashes = {shard.file: shard.sha256 for shard in known.shards(split)} if known else {}
    for path, expected in index.shards(found.card, folder, split):
        if not path.is_file():
            found.problems.append(f"{path} is missing")
        elif path.name in hashes and sha256_of(path) != hashes[path.name]:
            found.problems.append(f"{path} differs from what was written (sha256)")
        else:
            yield from _of_shard(path, expected, found)


def _of_shard(path: Path, expected: int | None, found: Findings) -> Iterator[tuple[str, Decoded]]:
    count = 0
    try:
        for key, fields in shards.read(path):
            count += 1
            place = f"{path}: sample {key}"
            try:
                sample = decode(found.card, fields, place)
            except ValueError as error:
                found.problems.append(str(error))
                if len(found.problems) >= MAX_PROBLEMS:
                    return
                continue
            yield place, sample
    except ValueError as error:
        found.problems.append(str(error))
        return
    if expected not in (None, count):
        found.problems.append(f"{path} has {count} samples, not {expected}")


def _classes(sample: Decoded, card: Card) -> NDArray[np.int64]:
    if isinstance(sample.target, int):
        return np.bincount([sample.target], minlength=card.num_classes + 1)
    pixels = np.bincount(sample.target.ravel(), minlength=256)
    return np.append(pixels[: card.num_classes], pixels[card.num_classes :].sum())


def _caption(sample: Decoded, info: DatasetInfo, place: str) -> str:
    if not isinstance(sample.target, int):
        return place.rpartition(" ")[2]
    if sample.subgroup is not None:
        return info.subgroups[sample.subgroup]
    return info.classes[sample.target]
