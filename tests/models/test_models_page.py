"""docs/models.md says of every model what is true of it."""

import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from sms_dist.config import ModelConfig
from sms_dist.models import MODELS, build_on_meta, speedup
from sms_dist.pruning.mask import prunable_names

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
INTRODUCTION, COUNTS, *_ = PAGE.split("\n## ")


def rows(text):
    """Cells of a table's rows that begin with `name`, without the head."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "`model.name`"]


OPTIONS = {row[0].strip("`"): row[2] for row in rows(INTRODUCTION)}
COUNTED = [[cell.strip("`|").replace(",", "") for cell in row] for row in rows(COUNTS)]


def test_every_model_has_a_row_and_its_counts():
    assert list(OPTIONS) == list(MODELS)
    assert {row[0] for row in COUNTED} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_the_options_are_those_of_the_build_function_with_their_defaults(name):
    parameters = inspect.signature(MODELS[name].build).parameters.values()
    wanted = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    told = dict(re.findall(r"`(\w+)` (\[[^]]*\]|[^ ,|]+)", OPTIONS[name]))
    assert told.keys() == wanted.keys()
    for key, text in told.items():
        default = wanted[key]
        plain = str(list(default) if isinstance(default, tuple) else default)
        assert text.strip('"').lower() == plain.lower()


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_counts_are_those_of_the_model(row):
    name, size, *numbers = row
    if name == "t5" and find_spec("transformers") is None:
        pytest.skip("no transformers")
    shape = tuple(map(int, size.split("x")))
    num_classes, *wanted = map(int, numbers)
    task = MODELS[name].task
    model = build_on_meta(ModelConfig(name=name), shape, num_classes, data_name="x", task=task)
    is_text = task == "translation"
    inputs = speedup.on_meta(shape, torch.int64) * 2 if is_text else speedup.on_meta(shape)
    prunable = sum(model.get_parameter(name).numel() for name in prunable_names(model))
    found = [
        prunable,
        sum(p.numel() for p in model.parameters()),
        sum(speedup.macs(model, inputs).values()),
    ]
    assert found == wanted
