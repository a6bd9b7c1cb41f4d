"""Pairs of lines out of two files; whatever is wrong is named by file and line."""

from __future__ import annotations

import gzip
import html
import re
import zlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import IO, NamedTuple, cast

from data.texts.files import Files

AGAIN = "copy it again"
BLOCK = 1 << 20
SEGMENT = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.IGNORECASE)


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
    """The pairs in stored order; ValueError when one file is longer, damaged or not UTF-8."""
    for number, (source, target) in enumerate(zip_longest(*map(lines, files)), start=1):
        if source is None or target is None:
            short, long = files if source is None else files[::-1]
            raise ValueError(
                f"{short} has {number - 1} lines and {long} has {count(long)}; line n of one has to"
                f" be the translation of line n of the other: {AGAIN}"
            )
        yield Pair(source, target)


def lines(path: Path) -> Iterator[Line]:
    """The sentences of a text, gzip or sgm file, without white space around them."""
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
    """The number of sentences, without decoding them."""
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
