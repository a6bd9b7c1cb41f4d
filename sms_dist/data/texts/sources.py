"""Sets of parallel text: what their cards say becomes facts and opened data sets."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sms_dist.config import DataConfig
from sms_dist.data.card import SPLITS, SplitName, TextCard
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.index import FILE
from sms_dist.data.texts import index
from sms_dist.data.texts.files import Languages, count, find
from sms_dist.data.texts.vocabulary import Bytes, open_vocabulary

if TYPE_CHECKING:
    from sms_dist.data.texts.reading import Policy
    from sms_dist.data.texts.resident import Sentences, Texts


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
        Pairs are lines: what opening the set leaves out, empty or too long, is still among them.
        """
        known = self.described(config)
        if Path(config.vocabulary).is_file():
            size = open_vocabulary(config.vocabulary).size
            known = dataclasses.replace(known, vocabulary=size)
        if config.path is None or not Path(config.path).is_dir():
            return known
        train, test = num_pairs(self.card, Path(config.path), config.languages)
        return dataclasses.replace(known, num_train=train, num_test=test)

    def open(self, config: DataConfig, info: DatasetInfo) -> Texts:
        """Read and encode everything; the text of training sentences is not kept."""
        from sms_dist.data.texts.resident import Texts

        if config.path is None:
            raise ValueError(
                f"data.name={info.name} needs data.path: the folder that holds its files, such as"
                f" train.{config.languages[0]} and train.{config.languages[1]}"
            )
        folder = Path(config.path)
        train, validation, train_counts = _read_train(self.card, config, info, folder)
        test, test_counts = _read_test(self.card, config, info, folder)
        actual = dataclasses.replace(info, num_train=len(train) + len(validation))
        return Texts(actual, train, validation, test, {**train_counts, **test_counts})


def num_pairs(card: TextCard, folder: Path, languages: Languages) -> tuple[int, int]:
    """Return those for training and for testing: as index.json says, else by counting lines."""
    stored = index.read(folder)
    if stored is not None:
        index.check(stored, card.name, folder, languages)
        return stored.splits.train.pairs, stored.splits.test.pairs
    train, test = (
        sum(count(files.source) for files in find(card, folder, split, languages))
        for split in SPLITS
    )
    return train, test


def _read_train(
    card: TextCard, config: DataConfig, info: DatasetInfo, folder: Path
) -> tuple[Sentences, Sentences, dict[str, int]]:
    """Which pairs are for validation depends on neither the vocabulary nor what is left out."""
    from sms_dist.data.dataset import is_validation
    from sms_dist.data.texts.reading import Reader, chunks

    vocabulary, limit = open_vocabulary(config.vocabulary), config.max_length
    train = Reader(vocabulary, limit, config.max_length_policy)
    validation = Reader(vocabulary, limit, _measured(config), keeps_text=True)
    is_chosen = is_validation(info, config).numpy()
    files = find(card, folder, "train", config.languages)
    counts: Counter[str] = Counter()
    for chunk in chunks(files, config.train_samples, counts):
        if counts["pairs"] > info.num_train:
            break
        chosen = is_chosen[chunk.indices]
        train.add(chunk.select(~chosen))
        validation.add(chunk.select(chosen))
    _check_count(folder, "train", counts["pairs"], info.num_train)
    found = {
        "train_empty": counts["empty"],
        "train_skipped": train.counts["skipped"],
        "train_cut": train.counts["cut"],
        "validation_cut": validation.counts["cut"],
    }
    return train.sentences(), validation.sentences(), found


def _read_test(
    card: TextCard, config: DataConfig, info: DatasetInfo, folder: Path
) -> tuple[Sentences, dict[str, int]]:
    from sms_dist.data.texts.reading import Reader, chunks

    vocabulary = open_vocabulary(config.vocabulary)
    test = Reader(vocabulary, config.max_length, _measured(config), keeps_text=True)
    for chunk in chunks(find(card, folder, "test", config.languages), None, None):
        test.add(chunk)
    sentences = test.sentences()
    _check_count(folder, "test", len(sentences), info.num_test)
    return sentences, {"test_cut": test.counts["cut"]}


def _measured(config: DataConfig) -> Policy:
    """What is measured is never left out: that would flatter."""
    return "stop" if config.max_length_policy == "stop" else "cut"


def _check_count(folder: Path, split: SplitName, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(
            f"data.path={folder}: {split} has {found} pairs instead of {expected};"
            f" copy its files again, or write {FILE} anew with `sms-dist data prepare`"
        )
