"""Turns a data set on disk into PNG shards with an index that they can be checked against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data import DATASETS, index, shards
from data.cifar import samples
from data.writer import sha256, write
from sms_dist.lookup import lookup


def prepare(
    name: str,
    source: Path,
    target: Path,
    samples_per_shard: int = 5000,
    progress: Callable[[str], None] = print,
) -> None:
    """Writes `target` from shards or a torchvision folder; refuses to overwrite."""
    on_disk = {key: entry for key, entry in DATASETS.items() if not entry.is_embedded}
    info = index.facts(lookup(on_disk, name, "name").info, source)
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard={samples_per_shard} must be at least 1")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not an empty folder; name another one or remove it first")
    train, test = samples(source, info, "train"), samples(source, info, "test")
    splits = {"train": train, "test": test}
    write(target, name, info.classes, splits, samples_per_shard, progress)


def check(folder: Path) -> list[str]:
    """What is wrong with the shards of an index, one sentence each; empty: nothing."""
    known = index.read(folder)
    if known is None:
        return [f"{folder} has no {index.FILE}; `sms-dist data prepare` writes one"]
    info = DATASETS[known.name].info if known.name in DATASETS else None
    if info is None:
        return [f"{folder / index.FILE} names the unknown data set {known.name}"]
    listed = known.splits.train + known.splits.test
    return [
        problem
        for facts in listed
        if (problem := _problem(folder, facts, info.input_shape, len(known.classes)))
    ]


def _problem(
    folder: Path, facts: index.ShardFacts, input_shape: tuple[int, ...], num_classes: int
) -> str | None:
    path = folder / facts.file
    if not path.is_file():
        return f"{path} is missing"
    if sha256(path) != facts.sha256:
        return f"{path} differs from what was written (sha256)"
    try:
        found = sum(1 for _ in shards.read(path, input_shape, num_classes))
    except ValueError as error:
        return str(error)
    return None if found == facts.samples else f"{path} has {found} samples, not {facts.samples}"
