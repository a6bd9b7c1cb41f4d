"""Files of parallel text: which ones hold a split, the pairs of lines in them, and their index.

Line n of one file is the translation of line n of the other. Errors name the file and the line.
"""

from __future__ import annotations

import gzip
import html
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

from pydantic import Field

from sms_dist.base.files import replacing, sha256_of
from sms_dist.config import section
from sms_dist.data.card import SPLITS, SplitName, TextCard
from sms_dist.data.index import FILE, is_hidden, read_as

Languages: TypeAlias = tuple[str, str]  # from, to
AGAIN = "copy it again"
SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.IGNORECASE)
LANGUAGE = re.compile(r"[A-Za-z]{2,3}([_-]\w+)?")


class Files(NamedTuple):
    """Two files whose lines belong together."""

    source: Path
    target: Path


def find(card: TextCard, folder: Path, split: SplitName, languages: Languages) -> list[Files]:
    """Return the files of a split in the order in which they are read; ValueError if none is there.

    The first pair that the card names; else, if the card has news, all corpora for training and
    the news for testing, in any sub-folder.
    """
    _check_languages(languages)
    if not folder.is_dir():
        raise ValueError(
            f"data.path={folder} is no folder; set it to the one that holds {card.name}"
        )
    stems = card.files.train if split == "train" else card.files.test
    for stem in stems:
        if files := _pair(folder, stem, languages):
            return [files]
    code = languages[0]
    if card.news is None:
        missing = code if not _file(folder, stems[0], code) else languages[1]
        raise ValueError(
            f"{folder / stems[0]}.{missing}: there is no such file, nor {stems[0]}.{missing}.gz;"
            " check data.path and data.languages"
        )
    if split == "train":
        all_files = _corpora(folder, languages)
        wanted = f"europarl-v7.{languages[1]}-{code}.{code}"
    else:
        all_files = _news(folder, card.news, languages)
        wanted = f"{card.news}.{code}"
    if not all_files:
        raise ValueError(
            f"data.path={folder} holds neither {stems[0]}.{code} nor {wanted} with its"
            " translation; set data.path to the folder of the unpacked archives, and check"
            " data.languages"
        )
    return all_files


def _check_languages(languages: Languages) -> None:
    """Raise ValueError unless they are two different codes: they become parts of file names."""
    if languages[0] == languages[1] or not all(LANGUAGE.fullmatch(code) for code in languages):
        raise ValueError(
            f"data.languages={list(languages)} must be two different codes as the files are named,"
            " for example [en, de]"
        )


def _pair(folder: Path, stem: str, languages: Languages) -> Files | None:
    source, target = (_file(folder, stem, code) for code in languages)
    return Files(source, target) if source and target else None


def _file(folder: Path, stem: str, language: str) -> Path | None:
    paths = (folder / f"{stem}.{language}", folder / f"{stem}.{language}.gz")
    return next((path for path in paths if path.is_file()), None)


def _found(folder: Path, pattern: str) -> list[Path]:
    """Return what matches the pattern in the folder or below, without hidden files and folders."""
    return [p for p in folder.rglob(pattern) if not is_hidden(p.relative_to(folder).as_posix())]


def _corpora(folder: Path, languages: Languages) -> list[Files]:
    """Return all pairs such as europarl-v7.de-en.en and europarl-v7.de-en.de, sorted."""
    corpora = set()
    for pair in ("-".join(languages), "-".join(languages[::-1])):
        for path in _found(folder, f"*.{pair}.{languages[0]}*"):
            stem = path.name.partition(f".{pair}.")[0]
            if files := _pair(path.parent, f"{stem}.{pair}", languages):
                corpora.add(files)
    return sorted(corpora)


def _news(folder: Path, stem: str, languages: Languages) -> list[Files]:
    """Return the news as text, else as the sgm files of the direction, else of the other one."""
    source, target = languages
    for parent in sorted({path.parent for path in _found(folder, f"{stem}*")}):
        if files := _pair(parent, stem, languages):
            return [files]
        forth, back = f"{stem}-{source}{target}", f"{stem}-{target}{source}"
        for names in (
            (f"{forth}-src.{source}.sgm", f"{forth}-ref.{target}.sgm"),
            (f"{back}-ref.{source}.sgm", f"{back}-src.{target}.sgm"),
        ):
            files = Files(parent / names[0], parent / names[1])
            if files.source.is_file() and files.target.is_file():
                return [files]
    return []


class Line(NamedTuple):
    """A sentence, and where it stands: the file, and the number of the line in it, from 1."""

    path: Path
    number: int
    text: str

    @property
    def place(self) -> str:
        """Return file and line, for messages."""
        return f"{self.path}, line {self.number}"


class Pair(NamedTuple):
    """Two lines that belong together."""

    source: Line
    target: Line

    @property
    def is_empty(self) -> bool:
        """Return whether one of the sides has no text."""
        return not (self.source.text and self.target.text)


def lines(path: Path) -> Iterator[Line]:
    """Yield the sentences of a text, gzip or sgm file, without white space around them.

    ValueError when the file is damaged or not UTF-8.
    """
    is_sgm = path.suffix == ".sgm"
    for number, data in enumerate(_byte_lines(path), start=1):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: byte 0x{data[error.start]:02x} is not UTF-8; convert the"
                " file, for example with iconv"
            ) from None
        if is_sgm:
            segments = SEGMENT.findall(text)
            yield from (Line(path, number, html.unescape(each).strip()) for each in segments)
        else:
            yield Line(path, number, text.strip())


def count_sentences(path: Path) -> int:
    """Return the number of sentences in a file; only those of an sgm file are decoded for it."""
    return sum(1 for _ in (lines(path) if path.suffix == ".sgm" else _byte_lines(path)))


def _byte_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file; only a newline ends one: sentences hold other separators."""
    try:
        # a buffer: gzip.GzipFile itself takes several times as long for a line
        is_gzip = path.suffix == ".gz"
        with io.BufferedReader(gzip.open(path)) if is_gzip else path.open("rb") as file:
            yield from file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file ({error}); {AGAIN}") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def pairs(all_files: Iterable[Files], allow_empty: bool = True) -> Iterator[Pair]:
    """Yield the pairs of lines of all files in stored order.

    ValueError when one file is longer than the other, or for the first pair with an empty side
    unless they are allowed.
    """
    for files in all_files:
        for number, (source, target) in enumerate(zip_longest(*map(lines, files)), start=1):
            if source is None or target is None:
                short, long = files if source is None else files[::-1]
                raise ValueError(
                    f"{short} has {number - 1} lines and {long} has {count_sentences(long)}; line n"
                    f" of one has to be the translation of line n of the other: {AGAIN}"
                )
            pair = Pair(source, target)
            if pair.is_empty and not allow_empty:
                raise ValueError(
                    f"{(target if source.text else source).place} is empty; every sentence that is"
                    " measured needs a translation: remove the line from both files"
                )
            yield pair


Name = Annotated[str, Field(pattern=r"^\w[\w.+-]*$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SplitFacts(section.Section):
    """The number of pairs in a split, and the hash of each file by its name in the folder."""

    pairs: section.Count
    sha256: dict[Name, Hash]


class Splits(section.Section):
    """The facts of both splits."""

    train: SplitFacts
    test: SplitFacts


class TextIndex(section.Section):
    """index.json beside parallel text: how many pairs its files hold, known without a look."""

    name: str
    languages: section.Pair
    empty: section.Natural
    """pairs that were left out because a side was empty"""
    splits: Splits


def num_pairs(card: TextCard, folder: Path, languages: Languages) -> tuple[int, int]:
    """Return the numbers of training and test pairs: those of index.json, else lines are counted.

    ValueError if the index is of another set or of other languages.
    """
    index = read_as(TextIndex, folder)
    if index is None:
        train, test = (
            sum(count_sentences(files.source) for files in find(card, folder, split, languages))
            for split in SPLITS
        )
        return train, test
    if card.name not in (index.name, "parallel"):
        raise ValueError(
            f"data.name={card.name}, but {folder / FILE} says that the folder holds {index.name};"
            f" set data.name={index.name} or another data.path"
        )
    if set(languages) != set(index.languages):
        raise ValueError(
            f"data.languages={list(languages)}, but {folder / FILE} says that the folder holds"
            f" {' and '.join(index.languages)}"
        )
    return index.splits.train.pairs, index.splits.test.pairs


def prepare(
    card: TextCard,
    source: Path,
    target: Path,
    languages: Languages = ("en", "de"),
    progress: Callable[[str], None] = print,
) -> None:
    """Write parallel text as one pair of gzip files for each split, with index.json.

    `target` appears complete or not at all; ValueError where it holds something already. Training
    pairs with an empty side are left out and counted; among test pairs they are an error.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is not an empty folder; name another one or remove it first")
    train_files, test_files = (find(card, source, split, languages) for split in SPLITS)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as new:
        new.mkdir()
        train, num_empty = _write(new, "train", languages, pairs(train_files))
        test, _ = _write(new, "test", languages, pairs(test_files, allow_empty=False))
        progress(f"train: {train.pairs} pairs, {num_empty} empty ones left out")
        progress(f"test: {test.pairs} pairs")
        index = TextIndex(
            name=card.name,
            languages=languages,
            empty=num_empty,
            splits=Splits(train=train, test=test),
        )
        (new / FILE).write_text(index.model_dump_json(indent=1), encoding="utf-8")


def _write(
    folder: Path, split: SplitName, languages: Languages, stored: Iterable[Pair]
) -> tuple[SplitFacts, int]:
    """Write the pairs that are not empty; return their facts, and how many were left out.

    Equal pairs give equal bytes: the gzip headers hold no time and no name.
    """
    paths = [folder / f"{split}.{language}.gz" for language in languages]
    num_written = num_empty = 0
    with ExitStack() as stack:
        raw = [stack.enter_context(path.open("wb")) for path in paths]
        files = [
            stack.enter_context(gzip.GzipFile("", "wb", 6, fileobj=file, mtime=0)) for file in raw
        ]
        for pair in stored:
            if pair.is_empty:
                num_empty += 1
                continue
            num_written += 1
            for line, file in zip(pair, files, strict=True):
                file.write(f"{line.text}\n".encode())
    if not num_written:
        raise ValueError(f"{split} has no pairs that are not empty; nothing was written")
    hashes = {path.name: sha256_of(path) for path in paths}
    return SplitFacts(pairs=num_written, sha256=hashes), num_empty


def check(folder: Path) -> list[str]:
    """Return what is wrong with the files of an index, one sentence each; an empty list if nothing.

    A folder without an index is such a fault.
    """
    index = read_as(TextIndex, folder)
    if index is None:
        return [f"{folder} has no {FILE}; `sms-dist data prepare` writes one"]
    problems = []
    for facts in (index.splits.train, index.splits.test):
        for name, digest in facts.sha256.items():
            path = folder / name
            if not path.is_file():
                problems.append(f"{path} is missing")
            elif sha256_of(path) != digest:
                problems.append(f"{path} differs from what was written (sha256)")
            elif (num_sentences := count_sentences(path)) != facts.pairs:
                problems.append(f"{path} has {num_sentences} sentences, not {facts.pairs}")
    return problems
