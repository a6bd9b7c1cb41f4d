"""Names that people write, looked up in tables; a misspelt one is answered with the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(table: Mapping[str, T], key: str, field: str) -> T:
    """table[key]; else a ValueError that names the field and the legal keys."""
    if key in table:
        return table[key]
    legal = ", ".join(sorted(table))
    raise ValueError(f"{field}={key} is not known{nearest(key, table)}; legal: {legal}")


def nearest(word: str, legal: Iterable[str]) -> str:
    """ ", did you mean X?" for the legal word closest to a misspelt one, else nothing."""
    match = difflib.get_close_matches(word, list(legal), n=1, cutoff=0.5)
    return f", did you mean {match[0]}?" if match else ""
