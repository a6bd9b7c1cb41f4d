"""Scores of a segmentation against slow, plain counting."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from sms_dist.tasks.segmentation import class_ious, metrics, num_totals, totals

VOID = 255


def drawn(seed, num_images, num_classes, has_void=True):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(num_images, num_classes, 3, 4, generator=generator)
    targets = torch.randint(num_classes, (num_images, 3, 4), generator=generator)
    if has_void:
        targets[torch.rand(targets.shape, generator=generator) < 0.3] = VOID
        targets[:, 0, 0] = 0  # at least one pixel counts
    return outputs, targets.to(torch.uint8)


def one_hot(classes, num_classes):
    return torch.nn.functional.one_hot(torch.tensor(classes), num_classes).movedim(-1, 1).float()


def test_two_images_by_hand():
    outputs = one_hot([[[0, 0, 1]], [[1, 2, 2]]], 4)
    targets = torch.tensor([[[0, 1, 1]], [[1, 1, VOID]]], dtype=torch.uint8)
    found = totals(outputs, targets, 4, VOID)
    assert len(found) == num_totals(4)
    # class 0: 1 of 2, class 1: 2 of 4, class 2: predicted in vain; class 3 occurs nowhere
    assert class_ious(found, ("road", "sky", "car", "pole")) == {
        "iou_road": 0.5,
        "iou_sky": 0.5,
        "iou_car": 0.0,
    }
    result = metrics(found, 4)
    assert result["miou"] == pytest.approx(1 / 3)
    assert result["accuracy"] == 3 / 5
    assert result["worst_class_iou"] == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 6), st.booleans())
def test_scores_equal_plain_counting(seed, num_images, num_classes, has_void):
    outputs, targets = drawn(seed, num_images, num_classes, has_void)
    found = metrics(totals(outputs, targets, num_classes, VOID if has_void else None), num_classes)
    chosen = outputs.argmax(1)
    counted = targets != VOID
    ious = []
    for c in range(num_classes):
        one, other = (chosen == c) & counted, (targets == c) & counted
        if (one | other).any():
            ious.append(int((one & other).sum()) / int((one | other).sum()))
    assert found["miou"] == pytest.approx(sum(ious) / len(ious))
    assert found["worst_class_iou"] == min(ious)
    assert found["accuracy"] == pytest.approx(float((chosen == targets)[counted].double().mean()))
    losses = [
        cross_entropy(o[None], t[None].long(), ignore_index=VOID)
        for o, t in zip(outputs, targets, strict=True)
    ]
    assert found["loss"] == pytest.approx(float(sum(losses)) / num_images, rel=1e-5)


def test_totals_add_up_whatever_the_batches():
    outputs, targets = drawn(0, 5, 3)
    whole = totals(outputs, targets, 3, VOID)
    parts = totals(outputs[:2], targets[:2], 3, VOID) + totals(outputs[2:], targets[2:], 3, VOID)
    torch.testing.assert_close(parts, whole)


def test_what_is_predicted_where_nothing_counts_does_not_matter():
    outputs, targets = drawn(1, 2, 3)
    other = torch.where((targets == VOID)[:, None], outputs.flip(1), outputs)
    assert not torch.equal(other, outputs)
    assert torch.equal(totals(outputs, targets, 3, VOID), totals(other, targets, 3, VOID))


def test_an_image_in_which_nothing_counts_is_left_out():
    outputs, targets = drawn(2, 2, 3)
    targets[1] = VOID
    assert torch.equal(totals(outputs, targets, 3, VOID), totals(outputs[:1], targets[:1], 3, VOID))


def test_of_equal_outputs_the_lowest_class_is_meant():
    found = totals(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long), 3, None)
    assert metrics(found, 3)["miou"] == 1
