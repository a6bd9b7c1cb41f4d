"""Files of parallel text: which of a folder hold a split, and the pairs of lines in them.

Whatever is wrong is named by file and line.
"""

from __future__ import annotations

import gzip
import html
import re
import zlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias, cast

from sms_dist.data.card import SplitName, TextCard

Languages: TypeAlias = "tuple[str, str]"  # from, to
AGAIN = "copy it again"
BLOCK = 1 << 20
SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.IGNORECASE)
LANGUAGE = re.compile(r"[A-Za-z]{2,3}([_-]\w+)?")


class Files(NamedTuple):
    """Two files whose lines belong together."""

    source: Path
    target: Path


def find(card: TextCard, folder: Path, split: SplitName, languages: Languages) -> list[Files]:
    """Return the files of a split in the order in which they are read; ValueError for none.

    One plain pair; else, where the card has news, all corpora for training and the news for
    testing, in any sub-folder.
    """
    check_languages(languages)
    if not folder.is_dir():
        raise ValueError(
            f"data.path={folder} is no folder; set it to the one that holds {card.name}"
        )
    stems = card.files.train if split == "train" else card.files.test
    for stem in stems:
        if files := _pair(folder, stem, languages):
            return [files]
    if card.news is None:
        raise _missing(folder, stems[0], languages)
    is_train = split == "train"
    found = _corpora(folder, languages) if is_train else _news(folder, card.news, languages)
    if not found:
        pair, code = "-".join(languages[::-1]), languages[0]
        wanted = f"europarl-v7.{pair}.{code}" if is_train else f"{card.news}.{code}"
        raise ValueError(
            f"data.path={folder} holds neither {stems[0]}.{code} nor {wanted} with its"
            " translation; set data.path to the folder of the unpacked archives, and check"
            " data.languages"
        )
    return found


def check_languages(languages: Languages) -> None:
    """Raise ValueError unless they are two different codes: they become parts of file names."""
    if languages[0] == languages[1] or not all(LANGUAGE.fullmatch(code) for code in languages):
        raise ValueError(
            f"data.languages={list(languages)} must be two different codes as the files are named,"
            " for example [en, de]"
        )


def _missing(folder: Path, stem: str, languages: Languages) -> ValueError:
    present = [code for code in languages if _file(folder, stem, code)]
    missing = next(code for code in languages if code not in present)
    return ValueError(
        f"{folder / stem}.{missing}: there is no such file, nor {stem}.{missing}.gz;"
        " check data.path and data.languages"
    )


def _pair(folder: Path, stem: str, languages: Languages) -> Files | None:
    source, target = (_file(folder, stem, code) for code in languages)
    return Files(source, target) if source and target else None


def _file(folder: Path, stem: str, language: str) -> Path | None:
    names = (f"{stem}.{language}", f"{stem}.{language}.gz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _corpora(folder: Path, languages: Languages) -> list[Files]:
    """europarl-v7.de-en.en beside europarl-v7.de-en.de, and so on."""
    found = set()
    for pair in ("-".join(languages), "-".join(languages[::-1])):
        for path in folder.rglob(f"*.{pair}.{languages[0]}*"):
            stem = path.name.partition(f".{pair}.")[0]
            if files := _pair(path.parent, f"{stem}.{pair}", languages):
                found.add(files)
    return sorted(found)


def _news(folder: Path, stem: str, languages: Languages) -> list[Files]:
    """The news as text, or as the sgm files of the direction, or else of the other one."""
    source, target = languages
    for parent in sorted({path.parent for path in folder.rglob(f"{stem}*")}):
        if files := _pair(parent, stem, languages):
            return [files]
        forth = Files(
            parent / f"{stem}-{source}{target}-src.{source}.sgm",
            parent / f"{stem}-{source}{target}-ref.{target}.sgm",
        )
        back = Files(
            parent / f"{stem}-{target}{source}-ref.{source}.sgm",
            parent / f"{stem}-{target}{source}-src.{target}.sgm",
        )
        if found := [files for files in (forth, back) if all(map(Path.is_file, files))]:
            return found[:1]
    return []


class Line(NamedTuple):
    """A sentence, and its line in the file from 1."""

    number: int
    text: str


class Pair(NamedTuple):
    """Two lines that belong together; an empty one is there, too."""

    source: Line
    target: Line

    @property
    def is_empty(self) -> bool:
        return not (self.source.text and self.target.text)


def pairs(files: Files) -> Iterator[Pair]:
    """Yield the pairs in stored order; ValueError when one file is longer, damaged or not UTF-8."""
    for number, (source, target) in enumerate(zip_longest(*map(lines, files)), start=1):
        if source is None or target is None:
            short, long = files if source is None else files[::-1]
            raise ValueError(
                f"{short} has {number - 1} lines and {long} has {count(long)}; line n of one has to"
                f" be the translation of line n of the other: {AGAIN}"
            )
        yield Pair(source, target)


def lines(path: Path) -> Iterator[Line]:
    """Yield the sentences of a text, gzip or sgm file, without white space around them."""
    is_sgm = path.suffix == ".sgm"
    for number, data in enumerate(_raw(path), start=1):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = data[error.start]
            raise ValueError(
                f"{path}, line {number}: byte 0x{byte:02x} is not UTF-8; convert the file,"
                " for example with iconv"
            ) from None
        if not is_sgm:
            yield Line(number, text.strip())
            continue
        for segment in SEGMENT.findall(text):
            yield Line(number, html.unescape(segment).strip())


def count(path: Path) -> int:
    """Return the number of sentences, without decoding them."""
    if path.suffix == ".sgm":
        return sum(1 for _ in lines(path))
    total, last = 0, b"\n"
    with _open(path) as file:
        for block in _guarded(path, iter(lambda: file.read(BLOCK), b"")):
            total, last = total + block.count(b"\n"), block
    return total + (not last.endswith(b"\n"))


def _raw(path: Path) -> Iterator[bytes]:
    with _open(path) as file:
        yield from _guarded(path, iter(file))


def _open(path: Path) -> IO[bytes]:
    try:
        # only "\n" ends a line: some sentences hold other separators that str.splitlines knows
        if path.suffix == ".gz":
            return cast("IO[bytes]", gzip.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def _guarded(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from blocks
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file ({error}); {AGAIN}") from None
