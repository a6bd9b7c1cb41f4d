"""Text, JSON and YAML from strangers: read within limits, or refused with a line for people.

YAML tags name types to build, and references blow a few lines up to gigabytes: both are refused.
Dates, numbers to the base of 60 and octal ones surprise: they are text, or plain numbers.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import yaml

MAX_JSON = 1 << 20  # bytes
MAX_JSON_DEPTH = 32
MAX_YAML_DEPTH = 16
MAX_YAML_EVENTS = 25_000  # keys, values, ends of lists and mappings: a second
MAX_INTEGER = 1 << 63
LONGEST = 2000  # characters of a message
LONGEST_VALUE = 100  # of a value in it
_TAG = "tag:yaml.org,2002:"


def at_home(text: str) -> str:
    """Return a path whose leading ~ or ~user is that home folder; ValueError for nobody."""
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        user = expanded.partition("/")[0]
        raise ValueError(f"begins with {user}, and nobody here is called so; write the whole path")
    return expanded


def path(text: str) -> Path:
    """Return the path that a word of a command line names, ~ being the home folder."""
    return Path(at_home(text))


def is_file(path: Path) -> bool:
    """Return whether a path is a plain file, also where its name is too long or strange."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # pathlib passes on what it does not expect: ENAMETOOLONG
        return False


def read(path: Path, max_bytes: int, kind: str, place: str | None = None) -> bytes:
    """Return the bytes of a plain file that has at most `max_bytes`.

    `kind` names the expected content ("a configuration"), `place` the file in errors (None: its
    path).
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


def printable(text: str, longest: int = LONGEST) -> str:
    """Return a text on one line, cut if it is too long, that a terminal shows and does not obey.

    Escape sequences, marks that turn the direction of writing and so on become \\x1b, \\u202e.
    """
    line = " ".join(text[: 2 * longest].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return shown if len(shown) <= longest else f"{shown[: longest - 4]} ..."


def shown(value: object) -> str:
    """Return a value as Python writes it, as much as fits into a message."""
    return printable(repr(value), LONGEST_VALUE)


def number(value: object) -> float:
    """Return a number that somebody gave as a float; NaN, which is in no range, for all else."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan


def numbers(values: Any) -> list[float] | None:
    """Return the numbers of a list, an array or a tensor as floats; None for all else."""
    try:
        given = [*values]
        is_text = any(isinstance(each, str) for each in (values, *given))
        return None if is_text or isinstance(values, Mapping) else [float(v) for v in given]
    except (TypeError, ValueError, RuntimeError):  # the last two are of tensors
        return None


def whole_number(value: object, field: str, least: int = 1) -> int:
    """Return a whole number that somebody gave; ValueError for all else, or if it is too small."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least:
        return int(value)
    raise ValueError(f"{field}={shown(value)} must be a whole number of at least {least}")


def read_json(path: Path, max_bytes: int = MAX_JSON) -> Any:
    """Return the value of the JSON text in a file."""
    return parse_json(read(path, max_bytes, "a file of this kind"), str(path), max_bytes)


def read_object(path: Path, max_bytes: int = MAX_JSON) -> dict[str, Any]:
    """Return the JSON object in a file."""
    return parse_object(read(path, max_bytes, "a file of this kind"), str(path), max_bytes)


def parse_object(content: bytes | str, place: str, max_bytes: int = MAX_JSON) -> dict[str, Any]:
    """Return the value of a JSON text that has to be one object; `place` names it in errors."""
    value = parse_json(content, place, max_bytes)
    if not isinstance(value, dict):
        raise ValueError(f"{place} is not a JSON object")
    return value


def parse_json(content: bytes | str, place: str, max_bytes: int = MAX_JSON) -> Any:
    """Return the value of a JSON text: finite numbers only, and no name twice in an object."""
    if len(content) > max_bytes:
        raise ValueError(f"{place} is larger than {max_bytes} bytes: not a file of this kind")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
        _check_depth(value)
    except RecursionError:
        raise ValueError(f"{place} is not JSON: it is nested too deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is not JSON: byte {error.start} is no UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{place} is not JSON: {error}") from None
    return value


def parse_yaml(content: str | bytes, source: str) -> Any:
    """Return the value of a YAML text; `source` names it in errors, which have the line's number.

    Its length is for the caller to limit.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        _check_events(text)
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        code = f"character {error.position} is U+{error.character:04X}, which is no text"
        raise ValueError(f"{source} is not YAML: {code}") from None
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it cannot be read"
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{source} is not YAML: {problem}{place}") from None
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise ValueError(f"{source} is not YAML: byte {error.start} is no UTF-8") from None


class Dumper(yaml.SafeDumper):
    """Writes what `parse_yaml` reads: no references, and names such as 1e3 in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain words as people read them, and no key twice in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _mistake(key, "a list or a mapping stands where a key should")
            if key.value in keys:
                raise _mistake(key, f"the key {key.value} is there twice")
            keys.add(key.value)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def _number(loader: Any, node: yaml.ScalarNode) -> int | float:
    word = node.value.replace("_", "").lower()
    if node.tag == f"{_TAG}float":
        number = float(word.replace(".inf", "inf").replace(".nan", "nan"))
        if not math.isfinite(number):
            raise _mistake(node, f"{node.value} is no finite number")
        return number
    integer = int(word, 16 if "x" in word else 10) if len(word) < 25 else MAX_INTEGER
    if abs(integer) >= MAX_INTEGER:
        raise _mistake(node, "an integer is too large (63 bits are the most)")
    return integer


# 1e-4 is a number, in files read and written (YAML 1.1: 1.0e-4).
_FLOAT = re.compile(
    r"^([-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d+(?=[eE]))([eE][-+]?\d+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
    re.ASCII,
)
_INTEGER = re.compile(r"^[-+]?(0x[0-9a-fA-F]+|[0-9][0-9_]*)$")
# Other plain words: null, true and false are YAML's, the rest is text.
_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] in (f"{_TAG}null", f"{_TAG}bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _class in (_Loader, Dumper):
    _class.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789."))
    _class.add_implicit_resolver(f"{_TAG}int", _INTEGER, list("-+0123456789"))
_Loader.add_constructor(f"{_TAG}int", _number)
_Loader.add_constructor(f"{_TAG}float", _number)


def _check_events(text: str) -> None:
    """Refuse references, tags, deep nesting and too many values before anything is built."""
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            raise _mistake(event, f"it has a reference (*{event.anchor}); write the value instead")
        if (tag := getattr(event, "tag", None)) is not None:
            raise _mistake(event, f"it has a tag ({tag}); write a plain value instead")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise _mistake(event, "it is nested too deep")
        if number > MAX_YAML_EVENTS:
            raise _mistake(event, "it has too many values")


def _mistake(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice[:40]!r} is there twice")
    return value


def _integer(text: str) -> int:
    integer = int(text)
    if not -MAX_INTEGER <= integer < MAX_INTEGER:
        raise ValueError("an integer is too large (64 bits are the most)")
    return integer


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no finite number")
    return number


def _check_depth(value: Any) -> None:
    """Go down level by level: deep lists never exhaust the stack of code that recurses."""
    level: list[Any] = [[value]]
    for _ in range(MAX_JSON_DEPTH + 1):
        parts = [part.values() if isinstance(part, dict) else part for part in level]
        level = [child for child in chain.from_iterable(parts) if isinstance(child, dict | list)]
        if not level:
            return
    raise ValueError("it is nested too deep")
