"""JSON from files that strangers may have written: values within limits, or a ValueError.

Refused as well: NaN and infinities, which other readers do not know; numbers that overflow later; a
name given twice, of which every reader takes another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sms_dist.small_files import read as read_small

MAX_BYTES = 1 << 24
MAX_DEPTH = 32
MAX_DIGITS = 19  # of an integer: what fits into 64 bits


def parse(content: bytes | str, place: str) -> Any:
    """The value of a JSON text; `place` names it in the error."""
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(
            text,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
            object_pairs_hook=_object,
        )
        _check_depth(value)
    except RecursionError:
        raise ValueError(f"{place} is not JSON: it is nested too deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is not JSON: byte {error.start} is no UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    return value


def parse_object(content: bytes | str, place: str) -> dict[str, Any]:
    """The same, of a text that has to be one object."""
    value = parse(content, place)
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not a JSON object")
    return value


def read(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The value in a file."""
    return parse(read_small(path, max_bytes, "a file of this kind"), str(path))


def read_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a file."""
    return parse_object(read_small(path, max_bytes, "a file of this kind"), str(path))


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"an integer has {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in value if names.count(name) > 1)
        raise ValueError(f"the name {twice[:40]!r} is there twice")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return
    raise ValueError("it is nested too deep")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
