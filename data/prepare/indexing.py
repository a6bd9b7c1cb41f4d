"""index.json for shards that were written by something else."""

from __future__ import annotations

from pathlib import Path

from data import card_source, index, shards
from data.card import SplitName
from data.carded import wanted_shards
from data.decode import decode
from data.index import ShardFacts, Splits
from data.writer import Progress, write_index
from sms_dist.atomic import sha256_of
from sms_dist.config import DataConfig


def write_missing(folder: Path, name: str, progress: Progress) -> None:
    """Of the shards that the card's patterns name; every sample is looked at."""
    source = card_source(name, "--name")
    if (folder / index.FILE).exists():
        raise ValueError(f"{folder / index.FILE} is there already; remove it first")
    card = source.card(DataConfig(name=name, path=str(folder)))
    found: dict[SplitName, list[ShardFacts]] = {"train": [], "test": []}
    for split, listed in found.items():
        for path, _ in wanted_shards(card, folder, split):
            count = 0
            for key, fields in shards.read(path):
                decode(card, fields, f"{path}: sample {key}")
                count += 1
            listed.append(ShardFacts(file=path.name, samples=count, sha256=sha256_of(path)))
            progress(f"{path.name}: {count} samples")
    classes = () if source.is_chosen else card.class_names
    write_index(folder, card.name, classes, Splits(**found))
