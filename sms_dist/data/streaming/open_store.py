"""Finds the shards of a split, copies them where they have to be, and counts what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sms_dist.config import DataConfig
from sms_dist.data import cache, index
from sms_dist.data.card import Card, SplitName
from sms_dist.data.decode import AGAIN
from sms_dist.data.streaming.positions import Positions, positions
from sms_dist.data.streaming.store import Store


class Listed(NamedTuple):
    """A shard; what is not known without an index is None."""

    name: str  # of a file in the folder, or a URL
    num_samples: int | None
    sha256: str | None


def open_store(card: Card, config: DataConfig, split: SplitName, num_samples: int) -> Store:
    """The shards that hold the first `num_samples` of a split, which must be there.

    Without data.train_samples there must be no more of them.
    """
    folder = index.folder_of(card, config)
    paths: list[Path] = []
    found: list[Positions] = []
    total = 0
    is_shortened = split == "train" and config.train_samples is not None
    for path, rows in _opened(_listed(card, folder, split), folder, config):
        paths.append(path)
        found.append(rows)
        total += len(rows)
        if is_shortened and total >= num_samples:
            break  # later shards are not opened
    if total < num_samples or (total > num_samples and not is_shortened):
        raise ValueError(
            f"data.path={folder}: {split} has {total} samples instead of {num_samples};"
            " copy the missing shards, or if this is the whole set, write its index.json with"
            " `sms-dist data index`"
        )
    return Store(paths, found)


def _opened(
    shards: list[Listed], folder: Path, config: DataConfig
) -> Iterator[tuple[Path, Positions]]:
    kept = cache.cache_folder(folder, config.cache)
    for shard in shards:
        path = cache.local(shard.name, folder, kept, config.remote, shard.sha256)
        rows = positions(path, kept)
        if shard.num_samples is not None and len(rows) != shard.num_samples:
            raise ValueError(
                f"{path} has {len(rows)} samples, index.json says {shard.num_samples}; {AGAIN}"
            )
        yield path, rows


def _listed(card: Card, folder: Path, split: SplitName) -> list[Listed]:
    known = index.read(folder)
    if known is not None:
        return [Listed(facts.file, facts.samples, facts.sha256) for facts in known.shards(split)]
    return [Listed(shard.path.name, None, None) for shard in index.shards(card, folder, split)]
