"""Shards of a set of images: written out of its download with an index, indexed, and checked."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sms_dist.base.files import sha256_of
from sms_dist.base.lookup import lookup
from sms_dist.config import DataConfig
from sms_dist.data import image_source, index
from sms_dist.data.card import FILE, OWN, SPLITS, Card, SplitName
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.decode import Decoded, decode, image_bytes
from sms_dist.data.images import ImageFiles
from sms_dist.data.index import ShardFacts, Splits
from sms_dist.data.prepare.folders import own, pairs
from sms_dist.data.prepare.layouts import Prepared, celeba, cityscapes, imagenet, torchvision
from sms_dist.data.prepare.statistics import SMALLEST_STD, Statistics
from sms_dist.data.prepare.writer import Progress, write, write_index
from sms_dist.data.shards import Sample, read_shard

# What a card's `download.layout` names: each lists what lies in a downloaded folder.
LAYOUTS: dict[str, Callable[[Path, Card], Prepared]] = {
    "torchvision": torchvision,
    "celeba": celeba,
    "cityscapes": cityscapes,
    "imagenet": imagenet,
    "pairs": pairs,
}
SAMPLES_PER_SHARD = 1000  # of images of one's own
MAX_PROBLEMS = 20
MAX_KINDS = 5  # of files that are not taken, in a message


def prepare(
    name: str,
    source: Path,
    target: Path,
    samples_per_shard: int | None = None,
    progress: Progress = print,
    skip_others: bool = False,
) -> None:
    """Write `target` out of what was downloaded, or out of shards; refuses to overwrite.

    ValueError for files in `source` that are not taken, unless `skip_others`.
    """
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
    if _has_shards(source):
        prepared = _of_shards(name, source)
    elif card is None:
        prepared = own(source, _own_name(target))
    else:
        prepared = _downloaded(card, source)
    if prepared.others:
        left = _left_out(prepared.others, source)
        if not skip_others:
            raise ValueError(
                f"--from {source}: {left}; convert or move them, or write --skip-others"
            )
        progress(f"left out {left}")
    for note in prepared.notes:
        progress(note)
    splits: dict[SplitName, Iterable[Sample]] = {"train": prepared.train, "test": prepared.test}
    classes, texts = prepared.classes, prepared.texts
    write(target, prepared.name, classes, splits, samples_per_shard, progress, texts)


def _left_out(files: Sequence[str], source: Path) -> str:
    """Return how many files are not taken, and one for each kind of them."""
    kinds: dict[str, list[str]] = {}
    for file in sorted(files):
        kinds.setdefault(Path(file).suffix.lower() or "without an extension", []).append(file)
    named = [
        f"{len(paths)} {kind} ({os.path.relpath(paths[0], source)}{', ...' * (len(paths) > 1)})"
        for kind, paths in sorted(kinds.items(), key=lambda item: -len(item[1]))[:MAX_KINDS]
    ]
    more = ", ..." if len(kinds) > MAX_KINDS else ""
    return (
        f"{len(files)} files: {', '.join(named)}{more}; taken are PNG and JPEG files directly in"
        " the folder of their class, or with a mask of their name, or shards of train and test"
    )


def write_missing(folder: Path, name: str, progress: Progress) -> None:
    """Write index.json for shards that something else has written; every sample is looked at."""
    if (folder / index.FILE).exists():
        raise ValueError(f"{folder / index.FILE} is there already; remove it first")
    source = image_source(config := DataConfig(name=name, path=str(folder)), "--name")
    card = source.configured(config)
    splits: dict[SplitName, list[ShardFacts]] = {"train": [], "test": []}
    for split, listed in splits.items():
        for path, _ in _files(card, folder, split):
            count = sum(1 for _ in _samples(path, None, card, _stop))
            listed.append(ShardFacts(file=path.name, samples=count, sha256=sha256_of(path)))
            progress(f"{path.name}: {count} samples")
    if left := _of_no_split(card, folder):
        raise ValueError(
            f"{left[0]} is a shard of neither train nor test by its name; name it in `shards` of"
            " the card, or move it away"
        )
    write_index(folder, card.name, _classes(source, card.class_names), Splits(**splits))


@dataclass
class Findings:
    """The counts and problems of checked shards.

    `histogram` counts the samples (of masks: the pixels) of each class, void ones last. `notes` are
    what people should know, and no faults.
    """

    info: DatasetInfo
    card: Card
    has_index: bool
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[SplitName, int] = field(default_factory=dict)
    histogram: dict[SplitName, NDArray[np.int64]] = field(default_factory=dict)
    pictures: list[tuple[str, Decoded]] = field(default_factory=list)


def check(folder: Path, name: str | None = None, num_pictures: int = 0) -> Findings:
    """Check counts, checksums, images and labels; ValueError where there is nothing to check.

    Without a name it is the one in index.json, or `card` where there is a card.yaml.
    `num_pictures` samples are kept, evenly out of all training samples.
    """
    if name is None:
        name = OWN if (folder / FILE).is_file() else index.name_of(folder)
    if name is None:
        raise ValueError(
            f"{folder} has no {index.FILE} and no {FILE}; say with --name which data set it is"
        )
    source = image_source(config := DataConfig(name=name, path=str(folder)), "--name")
    has_index = index.read(folder) is not None
    findings = Findings(source.facts(config), source.configured(config), has_index)
    card, info, problems = findings.card, findings.info, findings.problems

    def note(problem: str) -> bool:
        problems.append(problem)
        return len(problems) < MAX_PROBLEMS

    statistics = Statistics(card.channels)
    for split in SPLITS:
        wanted = info.num_train if split == "train" else info.num_test
        every = max(1, wanted // num_pictures) if num_pictures and split == "train" else 0
        count = 0
        histogram = np.zeros(card.num_classes + 1, np.int64)
        for path, facts in _files(card, folder, split):
            for key, fields, sample in _samples(path, facts, card, note):
                statistics.add(sample.image, image_bytes(card, fields) or b"")
                if every and count % every == 0 and len(findings.pictures) < num_pictures:
                    findings.pictures.append((_caption(sample, info, key), sample))
                count += 1
                histogram += _class_counts(sample, card)
        findings.counts[split], findings.histogram[split] = count, histogram
        if not problems and count != wanted:
            problems.append(f"{folder}: {split} has {count} samples, not {wanted}")
    findings.notes += statistics.notes()
    if min(card.std) < SMALLEST_STD:
        stds = " ".join(f"{std:.4f}" for std in statistics.moments[1])
        findings.notes.append(
            f"std of the card is {min(card.std)}, by which pixels are divided; that of the pixels"
            f" is {stds}"
        )
    counts = findings.histogram["train"][:-1]
    if empty := [info.classes[number] for number in np.flatnonzero(counts == 0)]:
        more = ", ..." * (len(empty) > MAX_PROBLEMS)
        findings.notes.append(
            f"train has nothing of the classes {', '.join(empty[:MAX_PROBLEMS])}{more}"
        )
    findings.notes += [f"{path} is not in {index.FILE}" for path in _of_no_split(card, folder)]
    return findings


def _samples(
    path: Path, facts: ShardFacts | None, card: Card, note: Callable[[str], bool]
) -> Iterator[tuple[str, dict[str, bytes], Decoded]]:
    """Yield key, fields and contents of each good sample of a shard.

    `note` gets each problem, and returns whether to go on with the shard.
    """
    if not path.is_file():
        note(f"{path} is missing")
    elif facts is not None and sha256_of(path) != facts.sha256:
        note(f"{path} differs from what was written (sha256)")
    else:
        count = 0
        try:
            for key, fields in read_shard(path):
                count += 1
                try:
                    sample = decode(card, fields, f"{path}: sample {key}")
                except ValueError as error:
                    if not note(str(error)):
                        return
                else:
                    yield key, fields, sample
        except ValueError as error:
            note(str(error))
        else:
            if facts is not None and count != facts.samples:
                note(f"{path} has {count} samples, index.json says {facts.samples}")


def _stop(problem: str) -> bool:
    raise ValueError(problem)


def _class_counts(sample: Decoded, card: Card) -> NDArray[np.int64]:
    if isinstance(sample.target, int):
        return np.bincount([sample.target], minlength=card.num_classes + 1)
    pixels = np.bincount(sample.target.ravel(), minlength=256)
    return np.append(pixels[: card.num_classes], pixels[card.num_classes :].sum())


def _caption(sample: Decoded, info: DatasetInfo, key: str) -> str:
    if not isinstance(sample.target, int):
        return key
    if sample.subgroup is not None:
        return info.subgroups[sample.subgroup]
    return info.classes[sample.target]


def _downloaded(card: Card, source: Path) -> Prepared:
    if card.download is None:
        raise ValueError(
            f"the card of {card.name} has no download.layout; add one of {', '.join(LAYOUTS)}"
        )
    layout = lookup(LAYOUTS, card.download.layout, f"the card of {card.name}: download.layout")
    return layout(source, card)


def _own_name(target: Path) -> str:
    """Return a name for images of one's own: that of their new folder."""
    return re.sub(r"[^\w.+-]", "_", target.resolve().name).lstrip(".+-") or "images"


def _has_shards(folder: Path) -> bool:
    """Return whether a folder holds shards; archives beside unpacked folders are a download."""
    files = list(folder.iterdir())
    has_archives = any(path.name.endswith(index.ENDINGS) for path in files)
    return has_archives and not any(
        path.is_dir() and not index.is_hidden(path.name) for path in files
    )


def _of_shards(name: str, folder: Path) -> Prepared:
    """Return the samples of shards as they are, once each was decoded."""
    config = DataConfig(name=name, path=str(folder))
    source = image_source(config, "name")
    card = source.configured(config)
    classes = _classes(source, index.facts(card, folder).classes)
    texts = {FILE: (folder / FILE).read_text()} if name == OWN else {}
    train, test = (_of_split(card, folder, split) for split in SPLITS)
    return Prepared(card.name, classes, train, test, texts, _of_no_split(card, folder))


def _of_no_split(card: Card, folder: Path) -> list[str]:
    """Return the shards in the folder that are neither for training nor for testing."""
    listed = {name for split in SPLITS for name, _ in index.shards(card, folder, split)}
    return [str(folder / name) for name in index.files(folder) if name not in listed]


def _of_split(card: Card, folder: Path, split: SplitName) -> Iterator[Sample]:
    for path, facts in _files(card, folder, split):
        for key, fields, _ in _samples(path, facts, card, _stop):
            yield key, fields


def _classes(source: ImageFiles, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes for an index: none where they depend on data.target."""
    return () if source.card.attributes else names


def _files(card: Card, folder: Path, split: SplitName) -> list[tuple[Path, ShardFacts | None]]:
    """Return the shards of a split, all of which have to be in the folder."""
    shards = index.shards(card, folder, split)
    if remote := [name for name, _ in shards if index.is_remote(name)]:
        raise ValueError(
            f"{folder / index.FILE} names {index.shown(remote[0])}, which is not in the folder;"
            " copy it there, and name it so"
        )
    return [(folder / name, facts) for name, facts in shards]
