"""Opens the data set of a card as files that are read while training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data import cache, index
from data.augment import for_streaming
from data.card import Card, SplitName
from data.dataset import DatasetInfo, Split
from data.decode import AGAIN
from data.division import is_validation
from data.loader import Loaders
from data.streaming.bad_samples import BadSamples
from data.streaming.loader import Streaming
from data.streaming.pool import Pool
from data.streaming.positions import positions
from data.streaming.reader import Part, Reader
from data.streaming.store import Store
from data.subgroups import grouped
from sms_dist.config import DataConfig


@dataclass(frozen=True)
class Streamed:
    """A `Dataset` on disk; what it gives is what the one in memory gives."""

    info: DatasetInfo
    train: Part
    validation: Part
    test: Part
    card: Card
    config: DataConfig

    def loaders(self, batch_size: int, device: torch.device) -> Loaders:
        """All splits, which share their worker processes; only the training one augments."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        pool = Pool(
            self._reader(splits),
            self.config.workers,
            self.config.prefetch,
            is_pinned=device.type == "cuda",
        )
        bad = BadSamples(self.config.max_bad_samples)

        def streaming(name: str) -> Streaming:
            return Streaming(
                name,
                splits[name].sizes,
                batch_size,
                self.config.shuffle_shards,
                self.card.mean,
                self.card.std,
                pool,
                bad,
                device,
            )

        return Loaders(streaming("train"), streaming("validation"), streaming("test"))

    def _reader(self, splits: dict[str, Part]) -> Reader:
        is_augmenting = self.config.augment
        return Reader(
            splits,
            self.card,
            for_streaming(self.card) if is_augmenting else None,
            is_augmenting,
            _class_subgroups(self.info, self.config),
            self.config.max_bad_samples,
        )


def open_streamed(card: Card, config: DataConfig, info: DatasetInfo) -> Streamed:
    """The data set of data.path; shards are copied if they have to be, and their headers read."""
    assert config.path is not None
    train = _store(card, config, "train", info.num_train, bool(config.train_samples))
    test = _store(card, config, "test", info.num_test, False)
    flags = is_validation(info, config).numpy()
    return Streamed(
        info,
        Part(train, np.flatnonzero(~flags)),
        Part(train, np.flatnonzero(flags)),
        Part(test, np.arange(info.num_test)),
        card,
        config,
    )


def _store(
    card: Card, config: DataConfig, split: SplitName, num_samples: int, is_shortened: bool
) -> Store:
    """The shards of a split; no more of them than hold the samples that are wanted."""
    folder = Path(config.path or "")
    kept = cache.cache_folder(folder, config.cache)
    paths, found = [], []
    for name, expected, sha256 in _shards(card, folder, split):
        if is_shortened and sum(map(len, found)) >= num_samples:
            break
        paths.append(cache.local(name, folder, kept, config.remote, sha256))
        found.append(positions(paths[-1], kept))
        if expected is not None and len(found[-1]) != expected:
            raise ValueError(
                f"{paths[-1]} has {len(found[-1])} samples, index.json says {expected}; {AGAIN}"
            )
    total = sum(map(len, found))
    if total < num_samples or (total > num_samples and not is_shortened):
        raise ValueError(
            f"data.path={folder}: {split} has {total} samples instead of {num_samples};"
            " copy the missing shards, or if this is the whole set, write its index.json with"
            " `sms-dist data index`"
        )
    return Store(paths, found)


def _shards(card: Card, folder: Path, split: SplitName) -> list[tuple[str, int | None, str | None]]:
    """(name or URL, number of samples, sha256) of each; None where there is no index."""
    known = index.read(folder)
    if known is not None:
        return [(shard.file, shard.samples, shard.sha256) for shard in known.shards(split)]
    return [(shard.path.name, None, None) for shard in index.shards(card, folder, split)]


def _class_subgroups(info: DatasetInfo, config: DataConfig) -> NDArray[np.int64] | None:
    """The sub-group of each class, where data.subgroups groups them."""
    if not config.subgroups:
        return None
    classes = torch.arange(len(info.classes))
    subgroups = grouped(Split(classes, classes), info, config.subgroups).subgroups
    assert subgroups is not None
    return subgroups.numpy()
