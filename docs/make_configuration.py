"""Writes configuration.md, the reference of all keys, from the models of the configuration."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # runs from a clone, not installed

from sms_dist.config import Config  # noqa: E402
from sms_dist.methods import METHODS, Method  # noqa: E402

TARGET = HERE / "configuration.md"
INTRODUCTION = """\
# Configuration

An experiment is a YAML file that says only what differs from the defaults below:

```yaml
name: my_soup
pruning: {goal_sparsity: 0.95, phases: 3}
candidates: {count: 5}
```

`--set pruning.goal_sparsity=0.98` on the command line overrides the file. An unknown key, a value
of the wrong type or outside its limits is refused before anything starts. The resolved
configuration, every key written out, lies in the run folder as `config.yaml`;
`sms-dist plan --config FILE` shows what it leads to.

This page is written by `make docs` from the files in `sms_dist/config`: change it there.
"""
LIMITS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
}


def document() -> str:
    """The whole page."""
    schema = Config.model_json_schema()
    sections = {
        key: schema["$defs"][field["$ref"].rpartition("/")[2]]
        for key, field in schema["properties"].items()
        if "$ref" in field
    }
    single = {k: field for k, field in schema["properties"].items() if k not in sections}
    tables = [_section("Top level", "", single)]
    tables += [_section(f"`{k}`", f"{k}.", found["properties"]) for k, found in sections.items()]
    return "\n".join([INTRODUCTION, *tables, _methods()])


def _methods() -> str:
    """The methods, and for each the keys that only it knows."""
    rows = ["| `method.name` | what it does | keys of its own |", "|---|---|---|"]
    for name, method in METHODS.items():
        rows.append(f"| `{name}` | {method.about} | {_keys(method)} |")
    return "## Methods\n\n" + "\n".join(rows) + "\n"


def _keys(method: Method) -> str:
    fields = method.keys.model_json_schema().get("properties", {})
    texts = [
        f"`method.{key}` (`{_value(field['default'])}`): {' '.join(field['description'].split())}"
        for key, field in fields.items()
    ]
    return "<br>".join(texts)


def _section(title: str, prefix: str, fields: dict[str, Any]) -> str:
    rows = ["| key | default | type | meaning |", "|---|---|---|---|"]
    for key, field in fields.items():
        cells = (f"`{prefix}{key}`", f"`{_value(field['default'])}`", _kind(field))
        rows.append(f"| {' | '.join(cells)} | {' '.join(field['description'].split())} |")
    return f"## {title}\n\n" + "\n".join(rows) + "\n"


def _value(default: Any) -> str:
    """As it stands in a YAML file."""
    return yaml.safe_dump(default, default_flow_style=True).removesuffix("...\n").strip()


def _kind(field: dict[str, Any]) -> str:
    """Type and limits: `integer >= 1, or null`."""
    if "anyOf" in field:
        return ", or ".join(_kind(choice) for choice in field["anyOf"])
    if "enum" in field:
        return " or ".join(f"`{_value(choice)}`" for choice in field["enum"])
    if "prefixItems" in field:
        return f"list of {' and '.join(_kind(item) for item in field['prefixItems'])}"
    if field["type"] == "array":
        return f"list of {_kind(field['items'])}s"
    name = {"object": "mapping", "boolean": "true or false"}.get(field["type"], field["type"])
    return " ".join([name, ", ".join(_limits(field))]).strip()


def _limits(field: dict[str, Any]) -> Iterator[str]:
    for key, text in LIMITS.items():
        if key in field:
            yield text.format(f"{field[key]:g}")


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
