"""Opens the data set of a card as files that are read while training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sms_dist.config import DataConfig
from sms_dist.data.augment import for_streaming
from sms_dist.data.card import Card
from sms_dist.data.dataset import DatasetInfo, Split
from sms_dist.data.loader import Loaders
from sms_dist.data.pixels import Pixels
from sms_dist.data.splits import grouped, is_validation
from sms_dist.data.streaming.bad_samples import BadSamples
from sms_dist.data.streaming.loader import Streaming
from sms_dist.data.streaming.open_store import open_store
from sms_dist.data.streaming.pool import Pool
from sms_dist.data.streaming.reader import Part, Reader
from sms_dist.data.theirs import own_augmentation


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
        pixels = Pixels(self.card.mean, self.card.std, device)

        def streaming(name: str) -> Streaming:
            return Streaming(
                name,
                splits[name].sizes,
                batch_size,
                self.config.shuffle_shards,
                pixels,
                pool,
                bad,
                device,
            )

        test = streaming("test")
        return Loaders(
            streaming("train"),
            streaming("validation"),
            test,
            pixels,
            test.stored,
            damaged=lambda: bad.found,
        )

    def _reader(self, splits: dict[str, Part]) -> Reader:
        wanted = self.config.augment
        augment = for_streaming(self.card) if wanted else None
        return Reader(
            splits,
            self.card,
            own_augmentation(wanted) if isinstance(wanted, str) else augment,
            wanted is True,
            _class_subgroups(self.info, self.config),
            self.config.max_bad_samples,
        )


def open_streamed(card: Card, config: DataConfig, info: DatasetInfo) -> Streamed:
    """The data set of data.path; shards are copied if they have to be, and their headers read."""
    train = open_store(card, config, "train", info.num_train)
    test = open_store(card, config, "test", info.num_test)
    flags = is_validation(info, config).numpy()
    return Streamed(
        info,
        Part(train, np.flatnonzero(~flags)),
        Part(train, np.flatnonzero(flags)),
        Part(test, np.arange(info.num_test)),
        card,
        config,
    )


def _class_subgroups(info: DatasetInfo, config: DataConfig) -> Tensor | None:
    """The sub-group of each class, where data.subgroups groups them."""
    classes = torch.arange(len(info.classes))
    return grouped(Split(classes, classes), info, config.subgroups).subgroups
