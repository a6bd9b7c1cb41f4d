"""Reads pairs of sentences into memory, as tokens, in chunks: the text itself is not kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from sms_dist.data.texts.files import Files, Line, Pair, pairs
from sms_dist.data.texts.packed import cut, packed, select, token_type
from sms_dist.data.texts.resident import Sentences
from sms_dist.data.texts.vocabulary import Tokens, Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

Policy = Literal["stop", "cut", "skip"]
CHUNK = 20_000  # pairs that are held as text at a time


@dataclass(frozen=True)
class Chunk:
    """Consecutive pairs of the same files; none is empty."""

    files: Files
    pairs: list[Pair]
    indices: NDArray[np.int64]  # among all pairs of the split, empty ones included

    def select(self, chosen: NDArray[np.bool_]) -> Chunk:
        """Only some of the pairs."""
        few = [pair for pair, is_chosen in zip(self.pairs, chosen, strict=True) if is_chosen]
        return Chunk(self.files, few, self.indices[chosen])


@dataclass
class Reader:
    """Gathers what is to be packed, and counts what was left out or cut."""

    vocabulary: Vocabulary
    max_length: int
    policy: Policy
    keeps_text: bool = False  # of the targets: what translations are compared with
    counts: Counter[str] = field(default_factory=Counter)
    _sources: list[Tokens] = field(default_factory=list)
    _targets: list[Tokens] = field(default_factory=list)
    _texts: list[str] = field(default_factory=list)

    def add(self, chunk: Chunk) -> None:
        """ValueError for the first sentence that is too long, where the policy says stop."""
        sides = [
            self.vocabulary.encode([pair[side].text for pair in chunk.pairs]) for side in (0, 1)
        ]
        is_long = np.maximum(sides[0][1], sides[1][1]) > self.max_length
        if is_long.any():
            if self.policy == "stop":
                raise _too_long(chunk, [lengths for _, lengths in sides], self.max_length)
            self.counts["skipped" if self.policy == "skip" else "cut"] += int(is_long.sum())
        kept = ~is_long if self.policy == "skip" else np.ones_like(is_long)
        for side, gathered in zip(sides, (self._sources, self._targets), strict=True):
            tokens, lengths = cut(*select(*side, kept), self.max_length)
            gathered.append((tokens.astype(token_type(self.vocabulary.size)), lengths))
        if self.keeps_text:
            self._texts.extend(pair.target.text for pair in chunk.select(kept).pairs)

    def sentences(self) -> Sentences:
        """All that was added, packed."""
        sources, targets = (
            packed(side, self.vocabulary.size) for side in (self._sources, self._targets)
        )
        return Sentences(sources, targets, tuple(self._texts))


def chunks(
    all_files: Iterable[Files], max_pairs: int | None, counts: Counter[str] | None
) -> Iterator[Chunk]:
    """The first pairs of the files; empty ones are counted, and an error where nothing counts."""
    index = 0
    for files in all_files:
        left = None if max_pairs is None else max_pairs - index
        stored = islice(pairs(files), left)
        while block := list(islice(stored, CHUNK)):
            full = [i for i, pair in enumerate(block) if not pair.is_empty]
            if counts is not None:
                counts.update(pairs=len(block), empty=len(block) - len(full))
            elif len(full) < len(block):
                raise _empty(files, next(pair for pair in block if pair.is_empty))
            places = np.array(full, np.int64) + index
            yield Chunk(files, [block[i] for i in full], places)
            index += len(block)


def _too_long(chunk: Chunk, lengths: list[NDArray[np.int64]], limit: int) -> ValueError:
    first = int(np.argmax(np.maximum(*lengths) > limit))
    side = 0 if lengths[0][first] > limit else 1
    place = _place(chunk.files[side], chunk.pairs[first][side])
    return ValueError(
        f"{place} has {lengths[side][first]} tokens and data.max_length={limit}; raise it,"
        " or set data.max_length_policy to cut or skip"
    )


def _empty(files: Files, pair: Pair) -> ValueError:
    side = 0 if not pair.source.text else 1
    return ValueError(
        f"{_place(files[side], pair[side])} is empty; every sentence that is measured needs a"
        " translation: remove the line from both files"
    )


def _place(path: Path, line: Line) -> str:
    return f"{path}, line {line.number}"
