"""Reads files that ought to be small: all of it, or a ValueError that says what is wrong."""

from __future__ import annotations

from pathlib import Path


def read(path: Path, max_bytes: int, kind: str, place: str | None = None) -> bytes:
    """The bytes of a plain file; never more than `max_bytes` are read.

    `kind` is what it should be ("a configuration"), `place` names it in errors (None: its path).
    """
    place = place or str(path)
    if not is_file(path):
        raise ValueError(f"{place}: there is no such file")
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"{place} cannot be read: {error.strerror or error}") from None
    if len(content) > max_bytes:
        raise ValueError(f"{place} is larger than {max_bytes} bytes: not {kind}")
    return content


def is_file(path: Path) -> bool:
    """Whether it is a plain file; no name is too long or too strange to be asked for."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # pathlib passes on what it does not expect: ENAMETOOLONG
        return False
