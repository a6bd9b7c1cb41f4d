"""A model of the user's own, in a file outside the repository."""

import sys

import pytest
import torch

from sms_dist.config import ModelConfig
from sms_dist.models import build, build_on_meta

SOURCE = """
from torch import nn

def make(input_shape, num_classes, *, hidden: int = 4, bias=True):
    layers = nn.Linear(input_shape[0], hidden, bias=bias), nn.Linear(hidden, num_classes)
    return nn.Sequential(nn.Flatten(start_dim=1), *layers)

def masks(input_shape, num_classes):
    return nn.Conv2d(input_shape[0], num_classes, 1)

masks.task = "segmentation"

def anything(input_shape, num_classes, **options):
    return nn.Linear(options["inputs"], num_classes)

def needy(input_shape, num_classes, *, depth):
    return nn.Linear(depth, num_classes)

def shapeless(num_classes):
    return nn.Linear(1, num_classes)

def wrong(input_shape, num_classes):
    return [num_classes]

not_a_function = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "nets.py").write_text(SOURCE)
    (tmp_path / "their_broken.py").write_text("import no_such_library_anywhere")
    (tmp_path / "their_typo.py").write_text("def build(:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    monkeypatch.delitem(sys.modules, "their_package", raising=False)
    monkeypatch.delitem(sys.modules, "their_package.nets", raising=False)


def made(name, task="classification", shape=(5,), seed=0, **options):
    config = ModelConfig(name=name, options=options)
    return build(config, shape, 3, seed=seed, data_name="x", task=task)


def test_a_function_of_the_current_folder_is_a_model_with_options(here):
    model = made("their_package.nets:make", hidden=7)
    assert model(torch.zeros(2, 5)).shape == (2, 3)
    assert model[1].out_features == 7
    again = made("their_package.nets:make", hidden=7)
    assert torch.equal(model[1].weight, again[1].weight)
    config = ModelConfig(name="their_package.nets:make")
    assert build_on_meta(config, (5,), 3, data_name="x")[1].weight.is_meta


def test_it_does_whatever_the_data_wants_unless_it_says_otherwise(here):
    assert made("their_package.nets:make", task="translation")
    assert made("their_package.nets:masks", task="segmentation", shape=(3, 8, 8))
    with pytest.raises(ValueError, match=r"is for segmentation, data.name=x is for classification"):
        made("their_package.nets:masks")


def test_a_function_may_take_any_options(here):
    assert made("their_package.nets:anything", inputs=2).in_features == 2
    assert made("their_package.nets:needy", depth=2).in_features == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("their_package.net:make", {}, "no module their_package.net on PYTHONPATH, beside the"),
        ("nowhere.nets:make", {}, "there is no module nowhere on PYTHONPATH"),
        ("their_package.nets:mak", {}, "nets.py has no function mak, did you mean make"),
        ("their_package.nets:not_a_function", {}, "has no function not_a_function"),
        ("their_broken:build", {}, "cannot be imported: No module named 'no_such_library_anywh"),
        ("their_typo:build", {}, "cannot be imported: invalid syntax"),
        ("their_package.nets:make", {"hiden": 3}, "options=hiden is not known, did you mean hidd"),
        ("their_package.nets:make", {"hidden": "a"}, "options.hidden='a' is no int"),
        ("their_package.nets:make", {"bias": 1}, "options.bias=1 is no bool"),
        ("their_package.nets:needy", {}, "missing a required argument: 'depth'"),
        ("their_package.nets:shapeless", {}, "cannot be called with .*too many positional"),
        ("their_package.nets:wrong", {}, "returned a list, not a torch.nn.Module"),
        ("their package:make", {}, "is no package.module:function"),
        ("../nets.py:make", {}, "is no package.module:function"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(here, name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        made(name, **options)
    assert "\n" not in str(caught.value)
