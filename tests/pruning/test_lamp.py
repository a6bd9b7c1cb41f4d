"""LAMP scores: the paper's definition, ties, zeros and pruned weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sms_dist.pruning.lamp import lamp_keys
from sms_dist.pruning.layer import magnitude_keys


def scores(weights, alive=None):
    """In descending order."""
    mask = torch.tensor(alive or [True] * len(weights))
    keys = lamp_keys(magnitude_keys(torch.tensor(weights), mask))
    return keys.view(torch.float32).tolist()


def test_scores_of_1_2_3():
    assert scores([2.0, -1.0, 3.0]) == pytest.approx([1, 4 / 13, 1 / 14])


def test_of_equal_weights_all_count_and_one_of_the_largest_has_the_highest_score():
    assert scores([2.0, 1.0, 1.0]) == pytest.approx([1, 1 / 6, 1 / 6])
    assert scores([3.0, 3.0, 3.0]) == pytest.approx([1, 1 / 3, 1 / 3])


def test_pruned_weights_neither_count_nor_get_a_score():
    assert scores([1.0, 9.0, 2.0, 3.0], [True, False, True, True]) == scores([1.0, 2.0, 3.0])
    assert scores([1.0, 2.0], [False, False]) == []


def test_a_layer_of_zeros_has_one_score_above_zero():
    assert scores([0.0, 0.0, 0.0]) == [1, 0, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_scores_follow_the_definition(weights):
    found = scores([float(w) for w in weights])
    ordered = sorted(weights, reverse=True)
    for w, score in list(zip(ordered, found, strict=True))[1:]:
        total = sum(v * v for v in weights if v >= w)
        assert score == pytest.approx(w * w / total if total else 0.0)
    assert found == sorted(found, reverse=True)
