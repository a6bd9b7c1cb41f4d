"""Augmentation of a sample: what it may do, and that its neighbours have no say."""

import pytest
import torch
import torch.nn.functional as F

from data.augment import _rotate, crop_flip, crop_flip_rotate
from sms_dist.randomness import stream

STREAM = stream(1, "augmentation", 0, 1, 2)
IMAGES = stream(0, "test images").uniform(torch.arange(40), 3 * 32 * 32).mul(256)
IMAGES = IMAGES.to(torch.uint8).view(40, 3, 32, 32)


@pytest.mark.parametrize("augment", [crop_flip, crop_flip_rotate])
def test_a_sample_looks_the_same_in_any_batch(augment):
    ids = torch.arange(40) + 1000
    together = augment(IMAGES, ids, STREAM)
    chosen = torch.tensor([7, 39, 0, 7])
    assert torch.equal(augment(IMAGES[chosen], ids[chosen], STREAM), together[chosen])
    assert torch.equal(augment(IMAGES[5:6], ids[5:6], STREAM), together[5:6])


def test_crop_flip_gives_a_window_of_the_padded_image_mirrored_or_not():
    results = crop_flip(IMAGES, torch.arange(40), STREAM)
    seen = set()
    for image, result in zip(IMAGES, results, strict=True):
        padded = F.pad(image, (4, 4, 4, 4))
        windows = {
            (top, left, mirrored): torch.equal(result, window.flip(2) if mirrored else window)
            for top in range(9)
            for left in range(9)
            for mirrored in (False, True)
            for window in [padded[:, top : top + 32, left : left + 32]]
        }
        assert sum(windows.values()) == 1
        seen |= {key for key, is_equal in windows.items() if is_equal}
    assert {mirrored for _, _, mirrored in seen} == {False, True}
    assert {top for top, _, _ in seen} >= {0, 8}
    assert {left for _, left, _ in seen} >= {0, 8}


def test_another_epoch_shows_another_crop():
    other = stream(1, "augmentation", 0, 1, 3)
    ids = torch.arange(40)
    assert not torch.equal(crop_flip(IMAGES, ids, STREAM), crop_flip(IMAGES, ids, other))


def test_no_rotation_changes_nothing():
    assert torch.equal(_rotate(IMAGES, torch.zeros(40)), IMAGES)


def test_a_quarter_turn_is_exact():
    turned = _rotate(IMAGES, torch.full((40,), torch.pi / 2))
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert torch.equal(turned[inner], torch.rot90(IMAGES, 1, (2, 3))[inner])


def test_rotation_moves_corners_by_fifteen_degrees_at_most():
    disc = torch.zeros(200, 1, 32, 32, dtype=torch.uint8)
    disc[:, :, 16, 28:31] = 255
    moved = crop_flip_rotate(disc, torch.arange(200), STREAM)
    assert moved.dtype == torch.uint8
    plain = crop_flip(disc, torch.arange(200), STREAM)
    assert not torch.equal(moved, plain)
    for image in moved[:, 0]:
        rows = image.sum(dim=1).nonzero().flatten()
        if len(rows):  # 15 degrees at radius 16 are 4.3 pixels, beside the crop's 4
            assert rows.min() >= 16 - 9.5
            assert rows.max() <= 16 + 9.5
