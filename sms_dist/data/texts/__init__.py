"""Parallel text: pairs of sentences from files to batches of tokens.

Nothing here imports torch before a data set is opened.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sms_dist.config import DataConfig
from sms_dist.data.card import TextCard
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.texts.files import num_pairs
from sms_dist.data.texts.vocabulary import Bytes, open_vocabulary

if TYPE_CHECKING:
    from sms_dist.data.texts.reading import Texts


@dataclass(frozen=True)
class TextFiles:
    """Reader `text`: pairs of files, in memory as tokens."""

    card: TextCard

    def described(self, config: DataConfig) -> DatasetInfo:
        """Return the facts on the card; no file is read, so the vocabulary is that of bytes."""
        counts = self.card.samples
        return DatasetInfo(
            self.card.name,
            counts.train if counts else 0,
            counts.test if counts else 0,
            input_shape=(config.max_length,),
            classes=(),
            task="translation",
            vocabulary=Bytes.size,
        )

    def facts(self, config: DataConfig) -> DatasetInfo:
        """Return the facts with the configured vocabulary and the pairs of the folder.

        For a plan elsewhere the vocabulary is that of bytes and the pairs are those of the card.
        Pairs are lines: those that opening the set leaves out, empty or too long, are counted too.
        """
        info = self.described(config)
        if Path(config.vocabulary).is_file():
            size = open_vocabulary(config.vocabulary).size
            info = dataclasses.replace(info, vocabulary=size)
        if config.path is None or not Path(config.path).is_dir():
            return info
        train, test = num_pairs(self.card, Path(config.path), config.languages)
        return dataclasses.replace(info, num_train=train, num_test=test)

    def open(self, config: DataConfig, info: DatasetInfo) -> Texts:
        """Return the data set in memory; the text of training sentences is not kept."""
        from sms_dist.data.texts.reading import read_texts

        return read_texts(self.card, config, info)
