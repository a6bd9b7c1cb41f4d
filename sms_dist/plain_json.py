"""JSON from files that strangers may have written: values within limits, or a ValueError.

Refused as well: NaN and infinities, which other readers do not know; numbers that overflow later; a
name given twice, of which every reader takes another.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

from sms_dist.small_files import read as read_small

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_INTEGER = 1 << 63


def parse(content: bytes | str, place: str, max_bytes: int = MAX_BYTES) -> Any:
    """The value of a JSON text; `place` names it in the error."""
    if len(content) > max_bytes:
        raise ValueError(f"{place} is larger than {max_bytes} bytes: not a file of this kind")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(text, parse_constant=_no_number, object_pairs_hook=_object)
        _check_values(value)
    except RecursionError:
        raise ValueError(f"{place} is not JSON: it is nested too deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is not JSON: byte {error.start} is no UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    return value


def parse_object(content: bytes | str, place: str, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The same, of a text that has to be one object."""
    value = parse(content, place, max_bytes)
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not a JSON object")
    return value


def read(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The value in a file."""
    content = read_small(path, max_bytes, "a file of this kind")
    return parse(content, str(path), max_bytes)


def read_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a file."""
    content = read_small(path, max_bytes, "a file of this kind")
    return parse_object(content, str(path), max_bytes)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no finite number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice[:40]!r} is there twice")
    return value


def _check_values(value: Any) -> None:
    """Level by level: lists that are nested too deep never exhaust the stack of those who read."""
    level: list[Any] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        parts = [part.values() if isinstance(part, dict) else part for part in level]
        for child in chain.from_iterable(parts):
            if type(child) is float and not math.isfinite(child):
                raise ValueError("a number is too large")
            if type(child) is int and not -MAX_INTEGER <= child < MAX_INTEGER:
                raise ValueError("an integer is too large (64 bits are the most)")
        level = [child for child in chain.from_iterable(parts) if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError("it is nested too deep")
