"""Generated pages are those that their source would give today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from sms_dist.config import Config
from sms_dist.config_compare import flatten

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
    rows = [line for line in generator.document().splitlines() if line.startswith("| `")]
    keys = [row.split("`")[1] for row in rows]
    assert keys == list(flatten(Config().model_dump(by_alias=True)))
    assert all(len(row.split(" | ")) == 4 for row in rows)
