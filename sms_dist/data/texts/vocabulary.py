"""Vocabularies: sentences to tokens and back, by the bytes of UTF-8 or by SentencePiece.

In both, 0 is padding, 1 the end of a sentence and 2 something unknown, as T5 has it.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sms_dist.base import plain
from sms_dist.base.files import write_bytes
from sms_dist.data.card import TextCard
from sms_dist.data.texts.files import Files, Languages, count_sentences, find, lines

PAD, END, UNKNOWN = 0, 1, 2
NUM_SPECIAL = 3
BYTES = "bytes"
MAX_BYTES = 1 << 26  # of a SentencePiece file
MAX_SENTENCES = 2_000_000  # to train on: more take long and change little
NUM_THREADS = 4  # fixed, for the rounding of sums depends on it
ANYWHERE = TextCard(name="texts", reader="text", news="news")  # a plain pair, else all corpora
# Sentences one after another, and the length of each. The integers are the smallest that hold the
# vocabulary and that torch can index.
Tokens: TypeAlias = tuple[NDArray[np.signedinteger[Any]], NDArray[np.int64]]


class Bytes:
    """A token for each byte, as in ByT5: no training, no unknown words, long sentences."""

    size = 256 + NUM_SPECIAL

    def encode(self, sentences: Sequence[str]) -> Tokens:
        """Return the tokens of all sentences; each ends with END, which its length counts."""
        encoded = [sentence.encode() for sentence in sentences]
        lengths = np.array([len(data) + 1 for data in encoded], np.int64)
        tokens = np.frombuffer(b"\0".join([*encoded, b""]), np.uint8).astype(np.int16) + NUM_SPECIAL
        tokens[np.cumsum(lengths) - 1] = END
        return tokens, lengths

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the sentence before the first END; bytes that are not UTF-8 become U+FFFD.

        Padding and numbers that are no token are dropped.
        """
        values = (token - NUM_SPECIAL for token in _sentence(tokens, self.size))
        return bytes(value for value in values if value >= 0).decode("utf-8", "replace")


class Pieces:
    """The pieces of a SentencePiece model, renumbered where it has other special tokens."""

    def __init__(self, path: Path) -> None:
        self._model = _read_model(path)
        num_pieces = self._model.get_piece_size()
        special = [self._model.pad_id(), self._model.eos_id(), self._model.unk_id()]
        others = [i for i in range(num_pieces) if i not in special]
        self._theirs = [*special, *others]  # by our token; -1: the model has none such
        self.size = len(self._theirs)
        self._ours = np.zeros(num_pieces, np.int16 if self.size <= 1 << 15 else np.int32)
        for ours, theirs in enumerate(self._theirs):
            if theirs >= 0:
                self._ours[theirs] = ours

    def encode(self, sentences: Sequence[str]) -> Tokens:
        """Return the tokens of all sentences; each ends with END, which its length counts."""
        pieces = self._model.encode(list(sentences), num_threads=1)
        lengths = np.array([len(sentence) + 1 for sentence in pieces], np.int64)
        tokens = np.full(lengths.sum(), END, self._ours.dtype)
        is_piece = np.ones(len(tokens), bool)
        is_piece[np.cumsum(lengths) - 1] = False
        tokens[is_piece] = self._ours[np.fromiter((p for ps in pieces for p in ps), np.int64)]
        return tokens, lengths

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the sentence before the first END, without padding and unknown numbers."""
        theirs = [self._theirs[token] for token in _sentence(tokens, self.size)]
        return str(self._model.decode([token for token in theirs if token >= 0]))


Vocabulary: TypeAlias = Bytes | Pieces


def open_vocabulary(name: str) -> Vocabulary:
    """Return the vocabulary that data.vocabulary names: bytes, or a SentencePiece model's path."""
    return Bytes() if name == BYTES else Pieces(Path(name))


def _read_model(path: Path) -> Any:
    library = _sentencepiece()
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


def _sentence(tokens: Iterable[int], size: int) -> Iterator[int]:
    """Yield the tokens before the end; a model may know more tokens than its vocabulary."""
    for token in tokens:
        if token == END:
            return
        if token != PAD and token < size:
            yield token


def train_vocabulary(source: Path, size: int, target: Path, languages: Languages) -> None:
    """Write a SentencePiece model of `size` pieces for the training sentences in a folder.

    The same text gives the same bytes. What has no piece is spelt in bytes, so that every sentence
    comes back as it was. ValueError if `target` exists, or if the text has too few pieces.
    """
    if target.exists():
        raise ValueError(f"--to {target} is there already; name another file or remove it first")
    library, model = _sentencepiece(), io.BytesIO()
    library.set_random_generator_seed(0)
    try:
        library.SentencePieceTrainer.train(
            sentence_iterator=_training_sentences(find(ANYWHERE, source, "train", languages)),
            model_writer=model,
            vocab_size=size,
            pad_id=PAD,
            eos_id=END,
            unk_id=UNKNOWN,
            bos_id=-1,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            num_threads=NUM_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].rpartition("] ")[2]
        raise ValueError(f"--size {size} does not fit this text: {reason}") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, model.getvalue())


def _training_sentences(all_files: list[Files]) -> Iterator[str]:
    """Yield all sentences of both languages, or every n-th if there are more than the maximum."""
    total = sum(2 * count_sentences(files.source) for files in all_files)
    step = max(1, -(-total // MAX_SENTENCES))
    for files in all_files:
        for path in files:
            yield from (line.text for line in islice(lines(path), 0, None, step))


def _sentencepiece() -> ModuleType:
    """Return the library; ImportError that says how to get it."""
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise ImportError(
            f'data.vocabulary needs sentencepiece ({error}); pip install "sms_dist[text]",'
            f" or use data.vocabulary={BYTES}"
        ) from error
    library: ModuleType = sentencepiece
    return library
