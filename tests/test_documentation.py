"""Generated pages are those that their source would give today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from sms_dist.config import Config
from sms_dist.config.compare import flatten
from sms_dist.methods import METHODS

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """docs/make_configuration.py as a module."""
    path = DOCS / "make_configuration.py"
    spec = importlib.util.spec_from_file_location("make_configuration", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_configuration_page_is_current(generator: ModuleType) -> None:
    written = generator.TARGET.read_text(encoding="utf-8")
    assert written == generator.document(), "run `make docs`"


def test_every_key_has_a_row(generator: ModuleType) -> None:
    tables, _ = generator.document().split("## Methods")
    rows = [line for line in tables.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(flatten(Config().model_dump(by_alias=True)))
    assert all(len(row.split(" | ")) == 4 for row in rows)


def test_every_method_has_a_row_with_the_keys_of_its_own(generator: ModuleType) -> None:
    _, table = generator.document().split("## Methods")
    _, *rows = [line for line in table.splitlines() if line.startswith("| `")]  # without its head
    assert [row.split("`")[1] for row in rows] == list(METHODS)
    for row, method in zip(rows, METHODS.values(), strict=True):
        assert re.findall(r"`method\.(\w+)`", row) == list(method.keys.model_fields)
