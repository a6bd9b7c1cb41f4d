"""Sentences as one flat row of tokens, padded only when a batch is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sms_dist.data.texts.vocabulary import PAD, Tokens


class Packed:
    """Tokens on the device; where each sentence begins on the CPU, so that no batch waits."""

    def __init__(self, tokens: Tensor, starts: Tensor) -> None:
        self._tokens = tokens  # int16 or int32
        self._starts = starts  # int64 [num_sentences + 1]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def to(self, device: torch.device) -> Packed:
        return Packed(self._tokens.to(device), self._starts)

    def num_tokens(self, indices: Tensor) -> int:
        """Of these sentences, their ends included; `indices` lie on the CPU."""
        return int((self._starts[indices + 1] - self._starts[indices]).sum())

    def padded(self, indices: Tensor, multiple_of: int = 1) -> Tensor:
        """int64 [len(indices), longest of them, rounded up] on the device; `indices` lie on the
        CPU."""
        starts = self._starts[indices]
        lengths = self._starts[indices + 1] - starts
        longest = int(lengths.max()) if len(lengths) else 0
        places = torch.arange(-(-longest // multiple_of) * multiple_of)
        is_token = places < lengths[:, None]
        index = torch.where(is_token, starts[:, None] + places, 0).to(self._tokens.device)
        tokens = self._tokens[index].long()
        return tokens.masked_fill_(~is_token.to(tokens.device), PAD)


def token_type(vocabulary_size: int) -> type[np.signedinteger[Any]]:
    """Return the smallest that holds the vocabulary and that torch can index."""
    return np.int16 if vocabulary_size <= 1 << 15 else np.int32


def packed(chunks: Sequence[Tokens], vocabulary_size: int) -> Packed:
    """Return chunks of sentences joined."""
    kind = token_type(vocabulary_size)
    tokens = np.concatenate(
        [np.zeros(0, kind), *(tokens.astype(kind, copy=False) for tokens, _ in chunks)]
    )
    starts = np.cumsum(np.concatenate([np.zeros(1, np.int64), *(lengths for _, lengths in chunks)]))
    return Packed(torch.from_numpy(tokens), torch.from_numpy(starts))


def cut(tokens: NDArray[np.signedinteger[Any]], lengths: NDArray[np.int64], limit: int) -> Tokens:
    """Return the first limit - 1 tokens of each sentence, and its last one, which is its end."""
    ends = np.cumsum(lengths)
    places = np.arange(len(tokens)) - np.repeat(ends - lengths, lengths)
    kept = places < limit - 1
    kept[ends - 1] = True
    return tokens[kept], np.minimum(lengths, limit)


def select(
    tokens: NDArray[np.signedinteger[Any]], lengths: NDArray[np.int64], kept: NDArray[np.bool_]
) -> Tokens:
    """Return only some of the sentences."""
    return tokens[np.repeat(kept, lengths)], lengths[kept]
