"""Pruning that cannot work is refused before anything starts, with a way out."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sms_dist.pruning.feasible import check_pruning, n_of_m, needs_shapes, num_expected
from sms_dist.pruning.mask import full_mask
from sms_dist.pruning.patterns import tighten
from sms_dist.schedules.sparsity import geometric

NET = {"conv1.weight": (16, 3, 3, 3), "conv2.weight": (32, 16, 3, 3), "fc.weight": (10, 32)}
LINEAR = {"a": (8, 8), "b": (8, 8)}


def refusal(shapes, *, sparsities=(0.5,), **keys):
    with pytest.raises(ValueError) as caught:
        check_pruning(shapes, sparsities, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"allocation": "erk"},
        {"allocation": "lamp"},
        {"allocation": "uniform_plus"},
        {"pattern": "filters"},
        {"pattern": "2:4", "goal_sparsity": 0.5, "keep_dense": ("conv1.weight",)},
        {"pattern": "1:4", "goal_sparsity": 0.75, "keep_dense": ("conv1.weight",)},
        {"pattern": "2:3", "goal_sparsity": 1 / 3, "keep_dense": ("conv2.weight", "fc.weight")},
        {"pattern": "2:3", "goal_sparsity": 0.333333, "keep_dense": ("conv2.weight", "fc.weight")},
    ],
)
def test_what_can_work_passes(keys):
    check_pruning(NET, [0.25, 0.5], **keys)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"pattern": "filter"}, "pruning.pattern=filter is not known, did you mean filters?"),
        ({"pattern": "2:x"}, "pruning.pattern=2:x is not known, did you mean 2:4?; valid values: "),
        ({"pattern": "0:4"}, "pruning.pattern=0:4 is not known"),
        ({"pattern": "4:2"}, "pruning.pattern=4:2 keeps 4 of every 2"),
        ({"pattern": "4:4"}, "pruning.pattern=4:4 keeps 4 of every 4"),
        ({"pattern": "2:4", "goal_sparsity": 0.9}, "=0.9; set pruning.goal_sparsity=0.5"),
        ({"pattern": "2:4", "goal_sparsity": None}, "=null; set pruning.goal_sparsity=0.5"),
        ({"pattern": "2:3", "goal_sparsity": 0.5}, "set pruning.goal_sparsity=0.333333333"),
        (
            {"pattern": "2:4", "goal_sparsity": 0.5},
            "conv1.weight of shape (16, 3, 3, 3) has 3; set pruning.keep_dense=[conv1.weight]",
        ),
        (
            {"pattern": "1:3", "goal_sparsity": 2 / 3, "keep_dense": ("conv1.weight",)},
            "conv2.weight of shape (32, 16, 3, 3) has 16 (and 1 more); set "
            "pruning.keep_dense=[conv1.weight, conv2.weight, fc.weight]",
        ),
        ({"pattern": "filters", "allocation": "erk"}, "leave pruning.allocation out"),
        (
            {"pattern": "filters", "sparsities": (0.5, 0.97)},
            "takes all 16 filters of conv1.weight at sparsity 0.97",
        ),
        (
            {"allocation": "uniform_plus", "sparsities": (0.5, 0.95)},
            "keeps conv1.weight and 20 % of fc.weight: 496 weights, more than the 268 of 5360",
        ),
        (
            {"allocation": "lamp", "sparsities": (0.9996,)},
            "pruning.allocation=lamp keeps a weight in each of 3 layers, and 2 weights stay",
        ),
        (
            {"keep_dense": ("conv1.wieght",)},
            "pruning.keep_dense=conv1.wieght is no weight that would be pruned, did you mean conv1",
        ),
        ({"keep_dense": tuple(NET)}, "pruning.keep_dense names every weight"),
    ],
)
def test_what_cannot_work_is_named_with_a_way_out(keys, message):
    assert message in refusal(NET, **keys)


def test_filters_need_a_convolution():
    assert "there is none; set it to unstructured" in refusal(LINEAR, pattern="filters")


def test_the_suggested_settings_work():
    """Follow what the messages say, one after another."""
    keys = {"pattern": "2:4"}
    keys["goal_sparsity"] = float(re.search(r"goal_sparsity=(\S+)$", refusal(NET, **keys))[1])
    dense = re.search(r"keep_dense=\[(.+)\]$", refusal(NET, **keys))[1]
    check_pruning(NET, [0.5], **keys, keep_dense=tuple(dense.split(", ")))


def test_patterns_of_numbers_are_any_two():
    assert n_of_m("2:4") == (2, 4)
    assert n_of_m("3:16") == (3, 16)
    assert n_of_m("filters") is n_of_m("unstructured") is None


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        ({}, False),
        ({"allocation": "erk"}, False),
        ({"allocation": "uniform_plus"}, True),
        ({"pattern": "filters"}, True),
        ({"pattern": "2:4"}, True),
        ({"keep_dense": ("x",)}, True),
    ],
)
def test_shapes_are_needed_where_they_matter(keys, needed):
    assert needs_shapes(**keys) is needed


@pytest.mark.parametrize("pattern", ["unstructured", "filters", "2:4"])
def test_the_expected_number_is_the_one_that_survives(pattern):
    shapes = {name: shape for name, shape in NET.items() if name != "conv1.weight"}
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    mask = full_mask(weights, weights)
    for sparsity in geometric(0.5, 3):
        mask = tighten(weights, mask, sparsity, pattern)
        assert mask.num_kept == num_expected(shapes, sparsity, pattern)


def test_neither_the_checks_nor_the_table_of_allocations_import_torch():
    code = (
        "import sys; from sms_dist.pruning import allocation, feasible; "
        "assert 'torch' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
