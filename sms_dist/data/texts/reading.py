"""Parallel text in memory: read as tokens into token buffers, and cut into batches on the device.

Files are read a block at a time, so that little of them is in memory as text.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sms_dist.base.randomness import Stream
from sms_dist.config import DataConfig
from sms_dist.data.card import SplitName, TextCard
from sms_dist.data.dataset import DatasetInfo, is_validation
from sms_dist.data.index import FILE
from sms_dist.data.loader import Batch, Loader, Loaders, Step
from sms_dist.data.texts.files import find, pairs
from sms_dist.data.texts.vocabulary import PAD, Tokens, Vocabulary, open_vocabulary

MULTIPLE = 8  # of a batch's width: libraries keep a program for each shape they meet
BLOCK = 20_000  # pairs that are in memory as text at a time
START = 0  # the first token of a translation, in T5


class TokenBuffer:
    """Sentences as one flat row of tokens, padded only when a batch is made of them.

    The tokens lie on the device. Where each sentence begins lies on the CPU, so that no batch waits
    for the device.
    """

    def __init__(self, tokens: Tensor, starts: Tensor) -> None:
        self._tokens = tokens  # int16 or int32
        self._starts = starts  # int64 [num_sentences + 1]

    @classmethod
    def joined(cls, chunks: Sequence[Tokens]) -> TokenBuffer:
        """Return a buffer of the sentences of all chunks, on the CPU."""
        tokens = np.concatenate([np.zeros(0, np.int16), *(tokens for tokens, _ in chunks)])
        lengths = np.concatenate([np.zeros(1, np.int64), *(lengths for _, lengths in chunks)])
        return cls(torch.from_numpy(tokens), torch.from_numpy(np.cumsum(lengths)))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def to(self, device: torch.device) -> TokenBuffer:
        """Return the buffer with its tokens on a device."""
        return TokenBuffer(self._tokens.to(device), self._starts)

    def num_tokens(self, indices: Tensor) -> int:
        """Return how many tokens some sentences have, their ends included; `indices` on the CPU."""
        return int((self._starts[indices + 1] - self._starts[indices]).sum())

    def padded(self, indices: Tensor, multiple_of: int = 1) -> Tensor:
        """Return some sentences, int64 [num_sentences, width] on the device; `indices` on the CPU.

        The width is the length of the longest of them, rounded up.
        """
        starts = self._starts[indices]
        lengths = self._starts[indices + 1] - starts
        longest = int(lengths.max()) if len(lengths) else 0
        places = torch.arange(-(-longest // multiple_of) * multiple_of)
        is_token = places < lengths[:, None]
        index = torch.where(is_token, starts[:, None] + places, 0).to(self._tokens.device)
        tokens = self._tokens[index].long()
        return tokens.masked_fill_(~is_token.to(tokens.device), PAD)


@dataclass(frozen=True)
class Sentences:
    """One split. `references` are the targets as they were written; training needs none."""

    sources: TokenBuffer
    targets: TokenBuffer
    references: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Texts:
    """A `Dataset` in memory; `facts` count the pairs that were left out or cut, for the journal."""

    info: DatasetInfo
    train: Sentences
    validation: Sentences
    test: Sentences
    facts: Mapping[str, int]

    def loaders(self, batch_size: int, device: torch.device) -> Loaders:
        """Return loaders of all splits, on the device; none is augmented."""
        train, validation, test = (
            TextLoader(split, batch_size, device)
            for split in (self.train, self.validation, self.test)
        )
        return Loaders(train, validation, test, facts=self.facts)


class TextLoader(Loader):
    """Pairs in device memory; each batch is about as wide as its longest sentence."""

    def __init__(self, sentences: Sentences, batch_size: int, device: torch.device) -> None:
        super().__init__(len(sentences), batch_size)
        self._sources = sentences.sources.to(device)
        self._targets = sentences.targets.to(device)
        self._references = sentences.references

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        for step in steps:
            sources = self._sources.padded(step.own, MULTIPLE)
            targets = self._targets.padded(step.own, MULTIPLE)
            inputs = (sources, F.pad(targets, (1, 0), value=START)[:, :-1])
            # every rank knows the lengths of all sentences: no need to ask the others
            weight = float(self._targets.num_tokens(step.everyone))
            texts = self._references
            references = tuple(texts[i] for i in step.own.tolist()) if texts else ()
            yield Batch(inputs, targets, len(step.everyone), weight, references=references)


def read_texts(card: TextCard, config: DataConfig, info: DatasetInfo) -> Texts:
    """Read and encode all pairs; those for validation are taken out of the training files.

    Which ones these are depends on neither the vocabulary nor the pairs that are left out.
    """
    if config.path is None:
        raise ValueError(
            f"data.name={card.name} needs data.path: the folder that holds its files, such as"
            f" train.{config.languages[0]} and train.{config.languages[1]}"
        )
    folder, vocabulary = Path(config.path), open_vocabulary(config.vocabulary)
    is_chosen, is_test = is_validation(info, config).numpy(), np.ones(info.num_test, bool)
    train, validation, counts = _read(card, "train", folder, config, vocabulary, is_chosen)
    _, test, test_counts = _read(card, "test", folder, config, vocabulary, is_test)
    facts = {
        "train_empty": counts["empty"],
        "train_skipped": counts["skipped"],
        "train_cut": counts["cut"],
        "validation_cut": counts["measured_cut"],
        "test_cut": test_counts["measured_cut"],
    }
    actual = dataclasses.replace(info, num_train=len(train) + len(validation))
    return Texts(actual, train, validation, test, facts)


def _read(
    card: TextCard,
    split: SplitName,
    folder: Path,
    config: DataConfig,
    vocabulary: Vocabulary,
    is_measured: NDArray[np.bool_],
) -> tuple[Sentences, Sentences, Counter[str]]:
    """Return the pairs to train on, those to measure, and how many were left out or cut.

    `is_measured` says which are which, by their places in the files. Pairs that are measured keep
    their references and are never skipped: that would flatter.
    """
    limit, max_pairs = config.max_length, config.train_samples if split == "train" else None
    trained: tuple[list[Tokens], list[Tokens]] = ([], [])  # sources, targets
    measured: tuple[list[Tokens], list[Tokens]] = ([], [])
    references: list[str] = []
    counts: Counter[str] = Counter()
    files = find(card, folder, split, config.languages)
    stored = islice(pairs(files, allow_empty=split == "train"), max_pairs)
    while block := list(islice(stored, BLOCK)):
        start = counts["pairs"]
        counts["pairs"] += len(block)
        if counts["pairs"] > len(is_measured):
            break
        encoded = [vocabulary.encode([pair[side].text for pair in block]) for side in (0, 1)]
        is_full = np.array([not pair.is_empty for pair in block])
        is_long = is_full & (np.maximum(encoded[0][1], encoded[1][1]) > limit)
        if config.max_length_policy == "stop" and is_long.any():
            number = int(is_long.argmax())
            side = 0 if encoded[0][1][number] > limit else 1
            raise ValueError(
                f"{block[number][side].place} has {encoded[side][1][number]} tokens and"
                f" data.max_length={limit}; raise it, or set data.max_length_policy to cut or skip"
            )
        to_measure = is_measured[start : counts["pairs"]]
        is_skipped = is_long & ~to_measure & (config.max_length_policy == "skip")
        counts["empty"] += int((~is_full).sum())
        counts["skipped"] += int(is_skipped.sum())
        counts["cut"] += int((is_long & ~to_measure & ~is_skipped).sum())
        counts["measured_cut"] += int((is_long & to_measure).sum())
        for side in (0, 1):
            is_kept = is_full & ~to_measure & ~is_skipped
            trained[side].append(_shortened(encoded[side], is_kept, limit))
            measured[side].append(_shortened(encoded[side], is_full & to_measure, limit))
        references += [block[i].target.text for i in np.flatnonzero(is_full & to_measure)]
    if counts["pairs"] != len(is_measured):
        raise ValueError(
            f"data.path={folder}: {split} has {counts['pairs']} pairs instead of"
            f" {len(is_measured)}; copy its files again, or write {FILE} anew with"
            " `sms-dist data prepare`"
        )
    return (
        Sentences(TokenBuffer.joined(trained[0]), TokenBuffer.joined(trained[1])),
        Sentences(
            TokenBuffer.joined(measured[0]), TokenBuffer.joined(measured[1]), tuple(references)
        ),
        counts,
    )


def _shortened(sentences: Tokens, is_kept: NDArray[np.bool_], limit: int) -> Tokens:
    """Return the sentences that are kept, of each its first limit - 1 tokens and its end."""
    tokens, lengths = sentences
    ends = np.cumsum(lengths)
    places = np.arange(len(tokens)) - np.repeat(ends - lengths, lengths)
    is_token_kept = places < limit - 1
    is_token_kept[ends - 1] = True
    is_token_kept &= np.repeat(is_kept, lengths)
    return tokens[is_token_kept], np.minimum(lengths, limit)[is_kept]
