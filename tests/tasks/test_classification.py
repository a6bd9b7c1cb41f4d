"""Scores of a classifier against slow, plain counting."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from sms_dist.tasks.classification import metrics, num_totals, totals


def scores(outputs, targets, subgroups=None, names=()):
    num_classes = outputs.shape[1]
    found = totals(outputs, targets, num_classes, subgroups, len(names))
    assert found.dtype == torch.float64
    assert len(found) == num_totals(num_classes, len(names))
    return metrics(found, num_classes, names)


def drawn(seed, num_samples, num_classes):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(num_samples, num_classes, generator=generator) * 3
    targets = torch.randint(num_classes, (num_samples,), generator=generator)
    return outputs, targets


def calibration_error(outputs, targets):
    """Guo et al. (2017), one sample after the other."""
    shares = np.exp(outputs.double().numpy())
    shares /= shares.sum(1, keepdims=True)
    bins = [[] for _ in range(15)]
    for share, target in zip(shares, targets.tolist(), strict=True):
        top = share.max()
        for k in range(15):
            if k / 15 < top <= (k + 1) / 15:
                bins[k].append((top, float(share.argmax() == target)))
    gaps = [
        len(b) * abs(np.mean([t for t, _ in b]) - np.mean([r for _, r in b])) for b in bins if b
    ]
    return sum(gaps) / len(targets)


def test_four_samples_by_hand():
    outputs = torch.tensor([[9.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
    found = scores(outputs, torch.tensor([0, 1, 1, 1]))
    assert found["accuracy"] == 0.5
    assert found["worst_class_accuracy"] == 1 / 3
    assert found["balanced_accuracy"] == (1 + 1 / 3) / 2  # class 2 has no samples
    confidence = 1 / (1 + 2 * math.exp(-9))
    assert found["ece"] == pytest.approx(confidence - 0.5)
    assert "top5_accuracy" not in found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 12))
def test_scores_equal_plain_counting(seed, num_samples, num_classes):
    outputs, targets = drawn(seed, num_samples, num_classes)
    found = scores(outputs, targets)
    chosen = outputs.argmax(1)
    assert found["accuracy"] == pytest.approx(float((chosen == targets).double().mean()))
    assert found["loss"] == pytest.approx(float(cross_entropy(outputs.double(), targets)))
    assert found["ece"] == pytest.approx(calibration_error(outputs, targets), abs=1e-9)
    recalls = [float((chosen == targets)[targets == c].double().mean()) for c in targets.unique()]
    assert found["worst_class_accuracy"] == pytest.approx(min(recalls))
    assert found["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))
    if num_classes > 5:
        among = [t in o.topk(5).indices for o, t in zip(outputs, targets, strict=True)]
        assert found["top5_accuracy"] == pytest.approx(sum(among) / num_samples)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.data())
def test_totals_add_up_whatever_the_batches(seed, num_samples, data):
    outputs, targets = drawn(seed, num_samples, 7)
    subgroups = targets % 3
    cut = data.draw(st.integers(0, num_samples))
    parts = sum(
        totals(outputs[part], targets[part], 7, subgroups[part], 3)
        for part in (slice(cut), slice(cut, None))
    )
    torch.testing.assert_close(parts, totals(outputs, targets, 7, subgroups, 3))


def test_recall_of_subgroups_as_in_table_15():
    """The paper's pretrained model: its "balanced accuracy" is the mean over the sub-groups."""
    names = ("MB", "MN", "FB", "FN")
    recalls = {"MB": 0.9441, "MN": 0.9993, "FB": 0.9848, "FN": 0.9954}
    subgroups = torch.arange(4).repeat_interleave(10_000)
    targets = torch.tensor([1, 0, 1, 0])[subgroups]
    is_right = torch.arange(40_000) % 10_000 < torch.tensor(
        [round(r * 10_000) for r in recalls.values()]
    ).repeat_interleave(10_000)
    outputs = torch.eye(2)[torch.where(is_right, targets, 1 - targets)]
    found = scores(outputs, targets, subgroups, names)
    assert {name: found[f"recall_{name}"] for name in names} == recalls
    assert found["worst_subgroup_recall"] == 0.9441
    assert found["balanced_subgroup_recall"] == pytest.approx(0.9809)


def test_a_subgroup_without_samples_is_left_out():
    found = scores(torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 2]), ("a", "b", "c"))
    assert found["recall_a"] == found["recall_c"] == found["worst_subgroup_recall"] == 1
    assert "recall_b" not in found


def test_subgroups_that_nobody_gave_are_left_out():
    """A published corrupted set knows none."""
    found = totals(torch.eye(2), torch.tensor([0, 1]), 2, None, 3)
    assert len(found) == num_totals(2, 3)
    assert set(metrics(found, 2, ("a", "b", "c"))) == set(
        scores(torch.eye(2), torch.tensor([0, 1]))
    )


def test_of_equal_outputs_the_lowest_class_is_meant():
    """A model that says nothing is right as often as class 0 occurs, not always."""
    found = scores(torch.zeros(8, 8), torch.arange(8))
    assert found["accuracy"] == 1 / 8
    assert found["top5_accuracy"] == 5 / 8


def test_an_output_that_is_not_a_number_is_wrong():
    outputs = torch.full((4, 6), math.nan)
    found = scores(outputs, torch.tensor([0, 1, 2, 5]))
    assert found["accuracy"] == found["top5_accuracy"] == 0
    assert math.isnan(found["loss"])


def test_the_totals_of_imagenet_are_small():
    assert num_totals(1000) == 2049


def test_an_unknown_class_is_no_silent_miscount():
    with pytest.raises(AssertionError, match="only 2"):
        totals(torch.eye(2), torch.tensor([0, 1]), 2, torch.tensor([0, 2]), 2)
