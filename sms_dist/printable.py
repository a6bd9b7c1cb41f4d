"""Text of strangers on one line, which a terminal shows and does not obey."""

from __future__ import annotations

LONGEST = 2000  # characters of a message
LONGEST_VALUE = 100  # of a value in it


def printable(text: str, longest: int = LONGEST) -> str:
    """On one line, cut if it is too long; what is not to be seen (escape sequences, marks that turn
    the direction of writing) becomes \\x1b, \\u202e and so on."""
    line = " ".join(text[: 2 * longest].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return shown if len(shown) <= longest else f"{shown[: longest - 4]} ..."


def shown(value: object) -> str:
    """A value as Python writes it, as much as fits into a message."""
    return printable(repr(value), LONGEST_VALUE)
