"""Fewer or shorter ones out of sentences that lie one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from data.texts.vocabulary import Tokens


def cut(tokens: NDArray[np.signedinteger[Any]], lengths: NDArray[np.int64], limit: int) -> Tokens:
    """The first limit - 1 tokens of each sentence, and its last one, which is its end."""
    ends = np.cumsum(lengths)
    places = np.arange(len(tokens)) - np.repeat(ends - lengths, lengths)
    kept = places < limit - 1
    kept[ends - 1] = True
    return tokens[kept], np.minimum(lengths, limit)


def select(
    tokens: NDArray[np.signedinteger[Any]], lengths: NDArray[np.int64], kept: NDArray[np.bool_]
) -> Tokens:
    """Only some of the sentences."""
    return tokens[np.repeat(kept, lengths)], lengths[kept]
