"""Configuration files: YAML with `--set key.path=value` on top; mistakes in one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from sms_dist.base.lookup import nearest
from sms_dist.base.plain import MAX_YAML_DEPTH, Dumper, is_file, parse_yaml, printable, read, shown
from sms_dist.base.shipped import shipped
from sms_dist.config import Config

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["dump", "load", "one_line", "problem", "read_mapping"]

MAX_BYTES = 1 << 18
LONGEST_SETTING = 200  # in a message


def load(path: Path | None = None, settings: Iterable[str] = ()) -> Config:
    """Return the configuration of a YAML file (None: the defaults) with key.path=value settings."""
    values = read_mapping(path, "--config") if path else {}
    for setting in settings:
        _set(values, setting)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ValueError(one_line(error, Config)) from None


def dump(config: Config) -> str:
    """Return the configuration as YAML, every key written out."""
    values = config.model_dump(mode="json", by_alias=True)
    return yaml.dump(values, Dumper=Dumper, sort_keys=False)


def read_mapping(path: Path, option: str) -> dict[str, Any]:
    """Return the mapping in a YAML file given as `option`, or in the shipped one of that name."""
    place = f"{option} {path}"
    if path.name == str(path) and not path.suffix and not is_file(path):
        named = shipped("slurm") / "clusters" if option == "--cluster" else shipped("configs")
        path = named / f"{path}.yaml"
    values = parse_yaml(read(path, MAX_BYTES, "a configuration", place), place)
    if not isinstance(values, dict | None):
        raise ValueError(f"{place} is not a mapping of keys to values")
    return values or {}


def _set(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    place = f"--set {printable(setting, LONGEST_SETTING)}"
    if not equals or not all(key.split(".")):
        raise ValueError(f"{place}: write key.path=value, for example --set seed=1")
    *parents, last = key.split(".")
    if len(parents) >= MAX_YAML_DEPTH:
        raise ValueError(f"{place}: the key is nested too deep")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ValueError(f"{place}: {parent} is a value, not a section")
    if len(text) > MAX_BYTES:
        raise ValueError(f"{place} is longer than {MAX_BYTES} characters: not a configuration")
    values[last] = parse_yaml(text, place)


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """Return what is wrong first with the values of a model, as one line for people."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(model, location[:-1])
        way_out = (
            f"{nearest(location[-1], valid)}; valid values: {', '.join(valid)}" if valid else ""
        )
        return f"{_key(location)} is not a key{way_out}"
    if first["type"] == "missing" and not isinstance(first["input"], list | tuple):
        return f"{_key(location)} is missing; give it a value"
    if first["type"] == "missing":  # of a list that is too short
        location.pop()
    if location and location[-1] in _OF_UNIONS:
        location.pop()
    key = _key(location)
    if not key or first["type"] == "value_error":  # its own words name the value
        return f"{key} {first['msg'].removeprefix('Value error, ')}".strip()
    return f"{key}={shown(first['input'])} {problem(first, model, location)}"


def problem(
    error: ErrorDetails, model: type[BaseModel] | None = None, location: Sequence[str] = ()
) -> str:
    """Return what a value should be, with an example where that is a list or a mapping.

    `location` is the value's place in the model.
    """
    kind, value = error["type"], error["input"]
    length = 0 if model is None else _length(model, location)
    if kind in _LISTS or (length and kind in ("missing", "too_long", "too_short")):
        given = value if isinstance(value, list) else [] if value is None else [value]
        example = [*given, *given[-1:] * length][: length or None]
        return f"should be a list{f' of {length}' if length else ''}, for example {_flow(example)}"
    if kind in _MAPPINGS:
        first = _valid_keys(model, location)[:1] if model is not None else ()
        value = "value" if value is None or isinstance(value, list) else value
        return f"should be a mapping, for example {_flow({(*first, 'key')[0]: value})}"
    message = error["msg"].removeprefix("Input ").removeprefix("String ")
    if isinstance(value, list | dict):
        return f"{message}, not a {'list' if isinstance(value, list) else 'mapping'}"
    # 1 and yes are no strings
    return f"{message}; write it in quotes" if kind == "string_type" else message


_LISTS = ("tuple_type", "list_type", "set_type", "frozen_set_type")
_MAPPINGS = ("dict_type", "mapping_type", "model_type", "model_attributes_type")
_OF_UNIONS = ("bool", "int", "float", "str")  # after the key of a value that may be of these types


def _key(location: Sequence[str]) -> str:
    return printable(".".join(location), LONGEST_SETTING)


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, sort_keys=False)
    return printable(text, LONGEST_SETTING)


def _length(model: type[BaseModel], location: Sequence[str]) -> int:
    """Return how many values a list has at a place in a model; 0 where that is open."""
    section = _section(model, location[:-1])
    field = section.model_fields.get(location[-1]) if section and location else None
    if field is None:
        return 0
    for kind in (field.annotation, *get_args(field.annotation)):
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
            return len(get_args(kind))
    return 0


def _valid_keys(model: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Return the keys of the section at a place in a model, none where it is not our own."""
    section = _section(model, location)
    if section is None:
        return []
    return [field.alias or name for name, field in section.model_fields.items()]


def _section(model: type[BaseModel], location: Sequence[str]) -> type[BaseModel] | None:
    """Return the section at a place in a model, None where it is not our own."""
    for part in location:
        if part.isdecimal():  # of a list of sections
            continue
        kind = model.model_fields[part].annotation if part in model.model_fields else None
        sections = [
            each
            for each in (kind, *get_args(kind))  # of a section that may be missing: X | None
            if isinstance(each, type) and issubclass(each, BaseModel)
        ]
        if len(sections) != 1:
            return None
        model = sections[0]
    return model
