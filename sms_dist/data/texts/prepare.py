"""Turns parallel text as it is downloaded into one pair of files a split, with an index."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from sms_dist.base.files import replacing, sha256_of
from sms_dist.data.card import SPLITS, SplitName, TextCard
from sms_dist.data.index import FILE
from sms_dist.data.texts import index
from sms_dist.data.texts.files import Files, Languages, check_languages, count, find
from sms_dist.data.texts.reading import Chunk, chunks


def prepare(
    card: TextCard,
    source: Path,
    target: Path,
    languages: Languages = ("en", "de"),
    progress: Callable[[str], None] = print,
) -> None:
    """Write `target`, which appears complete or not at all; refuses to overwrite.

    Training pairs with an empty side are left out and counted; for testing there may be none.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not an empty folder; name another one or remove it first")
    found: dict[SplitName, list[Files]] = {
        split: find(card, source, split, languages) for split in SPLITS
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as new:
        new.mkdir()
        empty: Counter[str] = Counter()
        train = _write(new, "train", chunks(found["train"], None, empty), languages)
        test = _write(new, "test", chunks(found["test"], None, None), languages)
        progress(f"train: {train.pairs} pairs, {empty['empty']} empty ones left out")
        progress(f"test: {test.pairs} pairs")
        facts = index.TextIndex(
            name=card.name,
            languages=languages,
            empty=empty["empty"],
            splits=index.Splits(train=train, test=test),
        )
        (new / FILE).write_text(facts.model_dump_json(indent=1), encoding="utf-8")


def check(folder: Path) -> list[str]:
    """Return what is wrong with the files of an index, one sentence each; empty: nothing."""
    known = index.read(folder)
    if known is None:
        return [f"{folder} has no {FILE}; `sms-dist data prepare` writes one"]
    splits = (known.splits.train, known.splits.test)
    return [
        problem
        for facts in splits
        for name, digest in facts.sha256.items()
        if (problem := _problem(folder / name, digest, facts.pairs))
    ]


def _write(
    folder: Path, split: SplitName, stored: Iterable[Chunk], languages: Languages
) -> index.SplitFacts:
    """Equal pairs give equal bytes: no times, no names."""
    check_languages(languages)
    paths = [folder / f"{split}.{language}.gz" for language in languages]
    num_pairs = 0
    with ExitStack() as stack:
        raw = [stack.enter_context(path.open("wb")) for path in paths]
        files = [
            stack.enter_context(gzip.GzipFile("", "wb", 6, fileobj=file, mtime=0)) for file in raw
        ]
        for chunk in stored:
            num_pairs += len(chunk.pairs)
            for side, file in enumerate(files):
                text = "".join(f"{pair[side].text}\n" for pair in chunk.pairs)
                file.write(text.encode())
    if not num_pairs:
        raise ValueError(f"{split} has no pairs that are not empty; nothing was written")
    return index.SplitFacts(pairs=num_pairs, sha256={path.name: sha256_of(path) for path in paths})


def _problem(path: Path, digest: str, num_pairs: int) -> str | None:
    if not path.is_file():
        return f"{path} is missing"
    if sha256_of(path) != digest:
        return f"{path} differs from what was written (sha256)"
    found = count(path)
    return None if found == num_pairs else f"{path} has {found} sentences, not {num_pairs}"
