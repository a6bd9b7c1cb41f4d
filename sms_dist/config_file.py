"""Configuration files: YAML with `--set key.path=value` on top; mistakes in one line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sms_dist.config import Config
from sms_dist.lookup import nearest

MAX_BYTES = 1 << 20
# (tag, form, first characters): 1e-4 is a number, in files read and written (YAML 1.1: 1.0e-4).
NUMBERS = (
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)

INTEGERS = (
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0x[0-9a-fA-F]+|[0-9][0-9_]*)$"),
    list("-+0123456789"),
)


def load(path: Path | None = None, settings: Iterable[str] = ()) -> Config:
    """What a YAML file says (none: the defaults), with `key.path=value` settings on top."""
    values = _read(path) if path else {}
    for setting in settings:
        _set(values, setting)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError(one_line(error, Config)) from None


def dump(config: Config) -> str:
    """The configuration as YAML, every key written out."""
    values = config.model_dump(mode="json", by_alias=True)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper that also quotes a name such as 1e3."""


_Dumper.add_implicit_resolver(*NUMBERS)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that also reads 1e-4 as a number, and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, times in keys.items():
            if times > 1:
                raise yaml.MarkedYAMLError(problem=f"the key {key} is there {times} times")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(*NUMBERS)
# YAML 1.1 reads 2:4 and 12:00:00 as numbers to the base of 60; here they are text.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != INTEGERS[0]]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(*INTEGERS)


def parse(text: str | bytes, source: str) -> Any:
    """The value of a YAML text; `source` names it in the error."""
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ValueError(f"{source} is not YAML: {problem}") from None
    except ValueError as error:  # for example a date 2024-13-01
        raise ValueError(f"{source} is not YAML: {error}") from None


def read_mapping(path: Path, option: str) -> dict[str, Any]:
    """The mapping in a YAML file given as `option`."""
    if not path.is_file():
        raise ValueError(f"{option} {path}: there is no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{option} {path} is larger than {MAX_BYTES} bytes: not a configuration")
    values = parse(path.read_bytes(), f"{option} {path}")
    if not isinstance(values, dict | None):
        raise ValueError(f"{option} {path} is not a mapping of keys to values")
    return values or {}


def _read(path: Path) -> dict[str, Any]:
    return read_mapping(path, "--config")


def _set(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError(f"--set {setting}: write key.path=value, for example --set seed=1")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ValueError(f"--set {setting}: {parent} is a value, not a section")
    values[last] = parse(text, f"--set {setting}")


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first thing that is wrong with the values of a model, for people."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        section: Any = model
        for part in location[:-1]:
            section = section.model_fields[part].annotation
        legal = [field.alias or name for name, field in section.model_fields.items()]
        return f"{key} is not a key{nearest(location[-1], legal)}; legal: {', '.join(legal)}"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = message.removeprefix("String ")
    if not key or first["type"] == "value_error":  # its own words name the value
        return f"{key} {message}".strip()
    # YAML reads 12:00:00 as a number of seconds, and 1 or yes are no strings either.
    hint = "; write it in quotes" if first["type"] == "string_type" else ""
    return f"{key}={first['input']!r} {message}{hint}"
