"""Sentences to tokens and back: the bytes of UTF-8, or the pieces of a SentencePiece model.

In both, 0 is padding, 1 the end of a sentence and 2 something unknown, as T5 has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sms_dist.base import plain

PAD, END, UNKNOWN = 0, 1, 2
NUM_SPECIAL = 3
BYTES = "bytes"
MAX_BYTES = 1 << 26  # of a SentencePiece file
# sentences one after another, and the length of each
Tokens: TypeAlias = tuple[NDArray[np.signedinteger[Any]], NDArray[np.int64]]


class Vocabulary(Protocol):
    """A number for each token."""

    size: int

    def encode(self, sentences: Sequence[str]) -> Tokens:
        """The tokens of all sentences, END after each, which counts."""
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """The sentence that ends at the first END; padding and tokens that do not exist vanish."""
        ...


def open_vocabulary(name: str) -> Vocabulary:
    """`data.vocabulary`: bytes, or the path of a SentencePiece model."""
    return Bytes() if name == BYTES else Pieces(Path(name))


class Bytes:
    """A token for each byte, as in ByT5: no training, no unknown words, long sentences."""

    size = 256 + NUM_SPECIAL

    def encode(self, sentences: Sequence[str]) -> Tokens:
        encoded = [sentence.encode() for sentence in sentences]
        lengths = np.array([len(data) + 1 for data in encoded], np.int64)
        places = np.cumsum(lengths) - 1
        tokens = np.frombuffer(b"\0".join([*encoded, b""]), np.uint8).astype(np.int32) + NUM_SPECIAL
        tokens[places] = END
        return tokens, lengths

    def decode(self, tokens: Iterable[int]) -> str:
        """Bytes that are not UTF-8 become U+FFFD."""
        values = (token - NUM_SPECIAL for token in _sentence(tokens, self.size))
        return bytes(value for value in values if value >= 0).decode("utf-8", "replace")


class Pieces:
    """The pieces of a SentencePiece model, renumbered where it has other special tokens."""

    def __init__(self, path: Path) -> None:
        self._model = _read(path)
        special = [self._model.pad_id(), self._model.eos_id(), self._model.unk_id()]
        others = [i for i in range(self._model.get_piece_size()) if i not in special]
        self._theirs = [*special, *others]  # by our token; -1: the model has none such
        self.size = len(self._theirs)
        self._ours = np.zeros(self._model.get_piece_size(), np.int32)
        for ours, theirs in enumerate(self._theirs):
            if theirs >= 0:
                self._ours[theirs] = ours

    def encode(self, sentences: Sequence[str]) -> Tokens:
        found = self._model.encode(list(sentences), num_threads=1)
        lengths = np.array([len(tokens) + 1 for tokens in found], np.int64)
        tokens = np.full(lengths.sum(), END, np.int32)
        is_piece = np.ones(len(tokens), bool)
        is_piece[np.cumsum(lengths) - 1] = False
        tokens[is_piece] = self._ours[np.fromiter((t for ts in found for t in ts), np.int64)]
        return tokens, lengths

    def decode(self, tokens: Iterable[int]) -> str:
        theirs = [self._theirs[token] for token in _sentence(tokens, self.size)]
        return str(self._model.decode([token for token in theirs if token >= 0]))


def sentencepiece() -> ModuleType:
    """The library; ImportError that says how to get it."""
    try:
        import sentencepiece as library
    except ModuleNotFoundError as error:
        raise ImportError(
            f'data.vocabulary needs sentencepiece ({error}); pip install "sms_dist[text]",'
            f" or use data.vocabulary={BYTES}"
        ) from error
    module: ModuleType = library
    return module


def _read(path: Path) -> Any:
    library = sentencepiece()
    if not path.is_file():
        raise ValueError(
            f"data.vocabulary={path}: there is no such file; train one with"
            f" `sms-dist data vocabulary`, or use {BYTES}"
        )
    try:
        return library.SentencePieceProcessor(
            model_proto=plain.read(path, MAX_BYTES, "a vocabulary")
        )
    except RuntimeError:
        raise ValueError(f"data.vocabulary={path} is no SentencePiece model") from None


def _sentence(tokens: Iterable[int], size: int) -> Iterable[int]:
    """Up to the end; a model may know more tokens than its vocabulary."""
    for token in tokens:
        if token == END:
            return
        if token != PAD and token < size:
            yield token
