"""Sentences with the translations of models, one below the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sms_dist.tasks.samples import Sentence

SOURCE, REFERENCE = "source", "reference"


def sentences_text(samples: Sequence[Sentence], head: Sequence[str], names: Sequence[str]) -> str:
    """Each sentence, what people made of it, and each of the models."""
    blocks = ["\n".join(head), *("\n".join(_block(sample, names)) for sample in samples)]
    return "\n\n".join(blocks) + "\n"


def _block(sample: Sentence, names: Sequence[str]) -> Iterator[str]:
    width = max(map(len, (SOURCE, REFERENCE, *names)))
    yield f"#{sample.place}"
    said = zip(names, sample.translations, strict=True)
    for name, text in ((SOURCE, sample.source), (REFERENCE, sample.reference), *said):
        yield f"  {name:{width}}  {_printable(text)}"


def _printable(text: str) -> str:
    """A model may say anything, which a terminal might take for commands."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
