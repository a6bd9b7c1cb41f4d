"""YAML as plain values within limits: text, numbers, true, null, lists, mappings.

Left out of YAML on purpose: tags, which name types to build; references, of which a few lines blow
up to gigabytes; dates, numbers to the base of 60 and octal ones, which surprise.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MAX_DEPTH = 16
MAX_NODES = 25_000  # keys, values, lists and mappings: half a second
MAX_INTEGER = 1 << 63
# 1e-4 is a number, in files read and written (YAML 1.1: 1.0e-4).
FLOAT = re.compile(
    r"^([-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d+(?=[eE]))([eE][-+]?\d+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
    re.ASCII,
)
INTEGER = re.compile(r"^[-+]?(0x[0-9a-fA-F]+|[0-9][0-9_]*)$")
# Controls of terminals, marks that turn the direction of writing, halves of characters.
UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_TAG = "tag:yaml.org,2002:"


class Dumper(yaml.SafeDumper):
    """Writes what `parse` reads: no references, and names such as 1e3 in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits, each of which is seen before memory is taken."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self._check_event(event)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _mistake(event, f"it has more than {MAX_NODES} values")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _mistake(event, "it is nested too deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    @staticmethod
    def _check_event(event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise _mistake(event, f"it has a reference (*{event.anchor}); write the value instead")
        if getattr(event, "tag", None) is not None:
            raise _mistake(event, f"it has a tag ({event.tag}); write a plain value instead")

    def construct_scalar(self, node: Any) -> Any:
        if found := UNSEEN.search(node.value):
            code = f"U+{ord(found[0]):04X}"
            raise _mistake(node, f"a value has the character {code}, which nobody sees")
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _mistake(key, "a list or a mapping stands where a key should")
            if key.value in seen:
                raise _mistake(key, f"the key {key.value} is there twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    value = 0
    if len(text) < 25:
        value = int(text, 16 if "x" in text else 10)
    if len(text) >= 25 or abs(value) >= MAX_INTEGER:
        raise _mistake(node, "an integer is too large (63 bits are the most)")
    return value


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    word = node.value.replace("_", "").lower()
    value = math.nan if word[-1] in "fn" else float(word)  # .inf, .nan
    if not math.isfinite(value):
        raise _mistake(node, f"{node.value} is no finite number")
    return value


def _resolvers(own: type[Any]) -> dict[Any, Any]:
    """What plain words can mean: null, true and false are YAML's, numbers ours, else it is text."""
    kept = (f"{_TAG}null", f"{_TAG}bool")
    return {
        first: [(tag, form) for tag, form in resolvers if tag in kept]
        for first, resolvers in own.yaml_implicit_resolvers.items()
    }


_Loader.yaml_implicit_resolvers = _resolvers(_Loader)
for _class in (_Loader, Dumper):
    _class.add_implicit_resolver(f"{_TAG}float", FLOAT, list("-+0123456789."))
    _class.add_implicit_resolver(f"{_TAG}int", INTEGER, list("-+0123456789"))
_Loader.add_constructor(f"{_TAG}int", _integer)
_Loader.add_constructor(f"{_TAG}float", _float)


def parse(content: str | bytes, source: str) -> Any:
    """The value of a YAML text; `source` names it in the error, which has the number of the line.

    Its length is for the caller to limit.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        return _Loader(text).get_single_data()
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not YAML: byte {error.start} is no UTF-8") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(f"{source} is not YAML: {_character(error)}") from None
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it cannot be read"
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{source} is not YAML: {problem}{place}") from None


def _character(error: yaml.reader.ReaderError) -> str:
    return f"character {error.position} is U+{error.character:04X}, which is no text"


def _mistake(at: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)
