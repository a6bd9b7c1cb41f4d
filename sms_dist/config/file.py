"""Configuration files: YAML with `--set key.path=value` on top; mistakes in one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from sms_dist.base.lookup import nearest
from sms_dist.base.plain import MAX_YAML_DEPTH, Dumper, is_file, parse_yaml, printable, read, shown
from sms_dist.base.shipped import shipped
from sms_dist.config import Config

__all__ = ["dump", "load", "one_line", "read_mapping"]

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
    key = printable(".".join(location), LONGEST_SETTING)
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(model, location[:-1])
        way_out = (
            f"{nearest(location[-1], valid)}; valid values: {', '.join(valid)}" if valid else ""
        )
        return f"{key} is not a key{way_out}"
    if first["type"] == "missing":
        return f"{key} is missing; give it a value"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    message = message.removeprefix("String ")
    if not key or first["type"] == "value_error":  # its own words name the value
        return f"{key} {message}".strip()
    # 1 and yes are no strings
    hint = "; write it in quotes" if first["type"] == "string_type" else ""
    return f"{key}={shown(first['input'])} {message}{hint}"


def _valid_keys(model: type[BaseModel], location: list[str]) -> list[str]:
    """Return the keys of the section at a place in a model, none where it is not our own."""
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
            return []
        model = sections[0]
    return [field.alias or name for name, field in model.model_fields.items()]
