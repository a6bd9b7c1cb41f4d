"""Segmentation: pixels of no class count for nothing, and every image weighs the same."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sms_dist import data
from sms_dist.config import DataConfig
from sms_dist.data.loader import Batch
from sms_dist.tasks.segmentation import AUXILIARY, Segmentation

CLASSES, VOID = 3, 255
CONFIG = DataConfig(name="camvid")
INFO = replace(data.described(CONFIG), classes=("sky", "road", "car"), void=VOID)
TASK = Segmentation(INFO, CONFIG)
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, CLASSES, 4, 5, generator=GENERATOR)
MASKS = torch.randint(0, CLASSES, (2, 4, 5), generator=GENERATOR)


class Fixed(nn.Module):
    """Says what it was told to say."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, images):
        return self.outputs


def with_void(image, num_pixels):
    masks = MASKS.clone()
    masks[image].view(-1)[:num_pixels] = VOID
    return masks


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_void_the_loss_is_the_mean_over_pixels_summed_over_images(smoothing):
    expected = 2 * F.cross_entropy(LOGITS, MASKS, label_smoothing=smoothing)
    torch.testing.assert_close(TASK.loss(LOGITS, MASKS, smoothing), expected)
    assert TASK.weight(MASKS) == 2


def test_an_image_weighs_the_same_with_few_pixels_that_count():
    masks = with_void(1, 17)
    alone = [
        F.cross_entropy(LOGITS[i : i + 1], masks[i : i + 1], ignore_index=VOID) for i in (0, 1)
    ]
    torch.testing.assert_close(TASK.loss(LOGITS, masks), alone[0] + alone[1])


def test_pixels_of_no_class_have_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    TASK.loss(logits, with_void(0, 7)).backward()
    assert not logits.grad[0].flatten(1)[:, :7].any()
    assert logits.grad[0].flatten(1)[:, 7:].all()


def test_an_image_without_any_class_adds_nothing():
    masks = with_void(0, 20)
    expected = F.cross_entropy(LOGITS[1:], MASKS[1:])
    torch.testing.assert_close(TASK.loss(LOGITS, masks), expected)


def test_an_auxiliary_head_takes_part_in_the_loss_and_in_nothing_else():
    both = (LOGITS, LOGITS.flip(1))
    expected = TASK.loss(LOGITS, MASKS) + AUXILIARY * TASK.loss(LOGITS.flip(1), MASKS)
    torch.testing.assert_close(TASK.loss(both, MASKS), expected)
    assert TASK.correct(both, MASKS) == TASK.correct(LOGITS, MASKS)


def test_metrics_have_the_score_and_an_iou_for_each_class():
    perfect = F.one_hot(MASKS, CLASSES).permute(0, 3, 1, 2).float() * 9
    batch = Batch((torch.zeros(2, 3, 4, 5),), with_void(0, 3), 2, 2.0)
    found = TASK.metrics(TASK.totals(Fixed(perfect), batch))
    assert found["miou"] == found["accuracy"] == 1
    assert {f"iou_{name}" for name in INFO.classes} <= found.keys()
    assert TASK.score in found


def test_totals_of_two_images_are_those_of_one_and_the_other():
    masks = with_void(1, 5)

    def totals(which):
        batch = Batch((torch.zeros(1),), masks[which], 1, 1.0)
        return TASK.totals(Fixed(LOGITS[which]), batch)

    together = totals(slice(0, 2))
    assert together.shape == (TASK.num_totals,)
    torch.testing.assert_close(totals(slice(0, 1)) + totals(slice(1, 2)), together)


def test_the_divergence_from_oneself_is_zero_and_void_pixels_do_not_count():
    other = LOGITS.clone()
    other[0].flatten(1)[:, :6] += torch.randn(CLASSES, 6, generator=GENERATOR)
    masks = with_void(0, 6)
    assert float(TASK.divergence(LOGITS, LOGITS, MASKS)) == pytest.approx(0, abs=1e-6)
    assert float(TASK.divergence(other, LOGITS, MASKS)) > 0.01
    assert float(TASK.divergence(other, LOGITS, masks)) == pytest.approx(0, abs=1e-6)
