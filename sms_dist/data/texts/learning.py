"""Trains a SentencePiece vocabulary for both languages; the same text gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sms_dist.base.files import write_bytes
from sms_dist.data.card import TextCard
from sms_dist.data.texts.files import Files, Languages, count, find, lines
from sms_dist.data.texts.vocabulary import END, PAD, UNKNOWN, sentencepiece

MOST_SENTENCES = 2_000_000  # more take long and change little
NUM_THREADS = 4  # sums of threads are rounded: not what the machine has
ANYWHERE = TextCard(name="texts", reader="text", news="news")  # a plain pair, else all corpora


def train_vocabulary(source: Path, size: int, target: Path, languages: Languages) -> None:
    """Write `size` pieces for the training sentences in the folder `source`; never overwrites.

    What has no piece is spelt in bytes, so that every sentence comes back as it was.
    """
    if target.exists():
        raise ValueError(f"--to {target} is there already; name another file or remove it first")
    files = find(ANYWHERE, source, "train", languages)
    model = _train(_sentences(files), size)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, model)


def _sentences(all_files: list[Files]) -> Iterator[str]:
    """All, or every n-th, of both languages in turn."""
    total = sum(2 * count(files.source) for files in all_files)
    step = -(-total // MOST_SENTENCES)
    for files in all_files:
        for path in files:
            yield from (line.text for line in islice(lines(path), 0, None, max(step, 1)))


def _train(sentences: Iterator[str], size: int) -> bytes:
    library, model = sentencepiece(), io.BytesIO()
    library.set_random_generator_seed(0)
    try:
        library.SentencePieceTrainer.train(
            sentence_iterator=sentences,
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
    return model.getvalue()
