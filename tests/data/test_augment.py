"""Augmentation of a sample: what it may do, and that its neighbours have no say."""

from functools import partial
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sms_dist.base.randomness import stream
from sms_dist.data import zoom
from sms_dist.data.augment import (
    AUGMENTATIONS,
    NUM_DRAWS,
    _rotate,
    crop_flip,
    crop_flip_rotate,
    flip,
    of_batches,
    random_part,
    random_resized_crop,
    scale_crop_flip,
    takes_parts,
)
from sms_dist.data.card import AugmentName, Card

STREAM = stream(1, "augmentation", 0, 1, 2)
IDS = torch.arange(40)
IMAGES = stream(0, "test images").uniform(IDS, 3 * 32 * 32).mul(256)
IMAGES = IMAGES.to(torch.uint8).view(40, 3, 32, 32)
LABELS = torch.arange(40)
MASKS = IMAGES[:, 0] // 32  # classes 0 ... 7
VOID = 9
of_masks = partial(scale_crop_flip, void=VOID)


def whole(*box, size=32, count=1):
    return torch.tensor([box or (0, 0, size, size)] * count, dtype=torch.float64)


@pytest.mark.parametrize(
    ("augment", "targets"),
    [
        (flip, LABELS),
        (flip, MASKS),
        (crop_flip, LABELS),
        (crop_flip_rotate, LABELS),
        (of_masks, MASKS),
    ],
)
def test_a_sample_looks_the_same_in_any_batch(augment, targets):
    ids = IDS + 1000
    together = augment(IMAGES, targets, ids, STREAM)
    for chosen in (torch.tensor([7, 39, 0, 7]), torch.tensor([5]), torch.arange(3, 20)):
        found = augment(IMAGES[chosen], targets[chosen], ids[chosen], STREAM)
        for part, everything in zip(found, together, strict=True):
            assert torch.equal(part, everything[chosen])
            assert part.dtype == everything.dtype
    assert together[0].shape == IMAGES.shape
    assert together[1].shape == targets.shape
    assert not torch.equal(together[0], IMAGES)


def test_crop_flip_gives_a_window_of_the_padded_image_mirrored_or_not():
    results, labels = crop_flip(IMAGES, LABELS, IDS, STREAM)
    assert torch.equal(labels, LABELS)
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


@pytest.mark.parametrize("size", [(3, 32, 32), (1, 5, 7), (1, 8, 8)])
def test_which_crop_follows_from_the_draws_of_the_sample(size):
    """Runs of earlier versions keep their bits. 35 bytes are not moved eight at a time."""
    height, width = size[1:]
    pixels = IMAGES.flatten(1)[:, : size[0] * height * width].reshape(-1, *size)
    for image, result, draws in zip(
        pixels, crop_flip(pixels, LABELS, IDS, STREAM)[0], STREAM.uniform(IDS, 3), strict=True
    ):
        top, left = (draws[:2] * 9).int().tolist()
        window = F.pad(image, (4, 4, 4, 4))[:, top : top + height, left : left + width]
        assert torch.equal(result, window if draws[2] < 0.5 else window.flip(2))


def test_another_epoch_shows_another_crop():
    other = stream(1, "augmentation", 0, 1, 3)
    first, second = (crop_flip(IMAGES, LABELS, IDS, s)[0] for s in (STREAM, other))
    assert not torch.equal(first, second)


def test_no_rotation_changes_nothing():
    assert torch.equal(_rotate(IMAGES, torch.zeros(40)), IMAGES)


def test_a_quarter_turn_is_exact():
    turned = _rotate(IMAGES, torch.full((40,), torch.pi / 2))
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert torch.equal(turned[inner], torch.rot90(IMAGES, 1, (2, 3))[inner])


def test_rotation_moves_corners_by_fifteen_degrees_at_most():
    disc = torch.zeros(200, 1, 32, 32, dtype=torch.uint8)
    disc[:, :, 16, 28:31] = 255
    ids = torch.arange(200)
    moved, _ = crop_flip_rotate(disc, ids, ids, STREAM)
    assert moved.dtype == torch.uint8
    plain, _ = crop_flip(disc, ids, ids, STREAM)
    assert not torch.equal(moved, plain)
    for image in moved[:, 0]:
        rows = image.sum(dim=1).nonzero().flatten()
        if len(rows):  # 15 degrees at radius 16 are 4.3 pixels, beside the crop's 4
            assert rows.min() >= 16 - 9.5
            assert rows.max() <= 16 + 9.5


def test_flip_mirrors_images_and_masks_together():
    images, masks = flip(IMAGES, MASKS, IDS, STREAM)
    assert torch.equal(images[:, 0] // 32, masks)
    is_kept = (images == IMAGES).flatten(1).all(1)
    assert torch.equal(images[~is_kept], IMAGES[~is_kept].flip(3))
    assert 10 < is_kept.sum() < 30


def test_the_whole_window_changes_nothing():
    assert torch.equal(zoom.bilinear(IMAGES, whole(count=40)), IMAGES)
    assert torch.equal(zoom.nearest(MASKS, whole(count=40), VOID), MASKS)


def test_a_quarter_enlarged_has_each_value_four_times():
    enlarged = zoom.nearest(MASKS[:1], whole(8, 4, 24, 20), VOID)
    expected = MASKS[:1, 4:20, 8:24].repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(enlarged, expected)


def test_half_the_size_is_the_mean_of_four_pixels_in_a_frame_of_zeros_and_void():
    halved = zoom.bilinear(IMAGES[:1], whole(-16, -16, 48, 48)).int()
    means = F.avg_pool2d(IMAGES[:1].float(), 2)
    assert (halved[:, :, 8:24, 8:24] - means).abs().max() <= 0.5
    assert halved.sum() == halved[:, :, 8:24, 8:24].sum()
    masks = zoom.nearest(MASKS[:1], whole(-16, -16, 48, 48), VOID)
    assert (masks[:, 8:24, 8:24] < 8).all()
    assert (masks == VOID).sum() == 32 * 32 - 16 * 16


def test_masks_move_with_their_images():
    """Images whose pixels say where they come from, and masks that say the same."""
    rows = torch.arange(32).repeat_interleave(32).view(1, 32, 32)
    images = (rows * 8).to(torch.uint8).expand(40, 3, 32, 32)
    moved, masks = of_masks(images, rows.to(torch.uint8).expand(40, 32, 32), IDS, STREAM)
    is_inside = masks != VOID
    is_inside &= masks != 0  # images have zeros outside as well
    difference = (moved[:, 0].float() / 8 - masks.float()).abs()[is_inside]
    assert difference.max() <= 0.6  # nearest against between
    outside = moved.sum(1)[(masks == VOID) & (moved[:, 0] < 8 * 8)]
    assert outside.max() == 0


def test_scales_reach_from_a_half_to_double():
    draws = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 1.0], [1 / 3, 0.2, 0.9]]).double()
    small, large, same = zoom.random_windows(20, 40, draws)
    assert small.tolist() == pytest.approx([-20, -10, 60, 30])  # all of it, in the middle
    assert large.tolist() == pytest.approx([20, 0, 40, 10])
    assert same.tolist() == pytest.approx([0, 0, 40, 20], abs=1e-5)


RANDOM = np.random.default_rng(0)


def test_a_random_part_follows_from_its_draws():
    image = RANDOM.integers(0, 256, (3, 20, 30), dtype=np.uint8)
    draws = RANDOM.random((2, NUM_DRAWS)).tolist()
    first, again, other = (
        random_resized_crop(image, (8, 8), d) for d in (draws[0], draws[0], draws[1])
    )
    assert first.shape == (3, 8, 8)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    mirrored = [*draws[0][:-1], 0.1], [*draws[0][:-1], 0.9]
    left, right = (random_resized_crop(image, (8, 8), d) for d in mirrored)
    assert np.array_equal(left, right[:, :, ::-1])


def test_random_parts_have_the_areas_and_shapes_that_are_asked_for():
    draws = RANDOM.random((2000, NUM_DRAWS)).tolist()
    boxes = np.array([random_part(200, 200, row) for row in draws])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes.max() <= 200
    area, shape = width * height / 200**2, width / height
    assert 0.07 < area.min() < 0.1
    assert 0.9 < area.max() <= 1
    assert 0.73 < shape.min() < 0.77
    assert 1.3 < shape.max() < 1.37


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10), (1, 1)])
def test_images_of_any_shape_have_a_random_part(height, width):
    for draws in RANDOM.random((50, NUM_DRAWS)).tolist():
        left, top, right, bottom = random_part(height, width, draws)
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def card(augment, task="classification"):
    masks = {"target": "seg.png", "void": VOID} if task == "segmentation" else {}
    half = (0.5,) * 3
    return Card(
        name="x", task=task, size=(8, 8), classes=4, mean=half, std=half, augment=augment, **masks
    )


def test_each_name_of_a_card_has_an_augmentation():
    assert set(AUGMENTATIONS) == set(get_args(AugmentName))
    assert of_batches(card("none"), True) is None
    assert of_batches(card("crop_flip"), True) is crop_flip
    assert of_batches(card("crop_flip"), False) is None
    assert of_batches(card("scale_crop_flip", "segmentation"), True).keywords == {"void": VOID}


def test_parts_of_stored_images_leave_nothing_for_the_batch():
    assert of_batches(card("random_resized_crop"), True) is None
    assert takes_parts(card("random_resized_crop"), True)
    assert not takes_parts(card("random_resized_crop"), False)
    assert not takes_parts(card("crop_flip"), True)
