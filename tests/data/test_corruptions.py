"""Generated corruptions: functions of a sample's address that do what their names say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator, Philox
from scipy import ndimage

from sms_dist.data.corruptions import BENCHMARK, filters
from sms_dist.data.corruptions.generated import CORRUPTIONS, _affine, corrupt

NAMES = BENCHMARK
UNCHANGED_IF_FLAT = (
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("contrast", "elastic_transform", "pixelate"),
)
# Bent, then crumpled; bright ice, then dark: stronger to the eye, not to a ruler.
OTHER_AT_LAST = {"elastic_transform", "frost"}
NOT_RANDOM = {
    *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"),
}


def clouds(number, height, width, decay=1.6):
    image = np.zeros((height, width, 1))
    return filters.clouds(image, Generator(Philox(key=(0, number))), decay)[..., 0]


def scenes(num_images, channels, height, width):
    """Clouds of colour with a bright box: smooth places and edges, as photographs have."""
    layers = np.stack([clouds(number, height, width) for number in range(num_images * channels)])
    pixels = (layers * 180).astype(np.uint8).reshape(num_images, channels, height, width)
    images = torch.from_numpy(pixels)
    images[:, :, height // 3 : height // 2, width // 4 : width // 2] += 70
    return images


SMALL, LARGE = scenes(6, 3, 32, 32), scenes(3, 3, 64, 80)


def flat(value, num_images=8):
    return torch.full((num_images, 3, 32, 32), value, dtype=torch.uint8)


def distance(name, severity, images):
    corrupted = corrupt(name, severity, images, torch.arange(len(images)), 0)
    return float((corrupted.float() - images.float()).square().mean())


def test_the_fifteen_corruptions_of_the_benchmark_have_five_severities():
    assert list(CORRUPTIONS) == list(NAMES)
    assert len(NAMES) == 15
    assert all(len(levels) == 5 for each in CORRUPTIONS.values() for levels in each[1:])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("images", [SMALL, LARGE], ids=["small", "large"])
def test_the_strongest_severity_changes_most(name, images):
    weakest, strongest = (distance(name, severity, images) for severity in (1, 5))
    if name in OTHER_AT_LAST:
        assert min(weakest, strongest) > 50
    else:
        assert 0 < weakest < strongest


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 21), (3, 70, 64)], ids=str)
def test_an_image_is_corrupted_alike_in_every_batch(name, shape):
    images, ids = scenes(5, *shape), torch.tensor([7, 0, 10**9, 3, 4])
    before = images.clone()
    together = corrupt(name, 3, images, ids, 5)
    assert together.shape == images.shape
    assert together.dtype == torch.uint8
    assert torch.equal(images, before)
    order = torch.tensor([3, 1, 4])
    assert torch.equal(corrupt(name, 3, images[order], ids[order], 5), together[order])
    alone = torch.cat([corrupt(name, 3, images[i, None], ids[i, None], 5) for i in range(5)])
    assert torch.equal(alone, together)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.integers(1, 5),
    st.integers(0, 2**40),
    st.lists(st.integers(0, 5), min_size=1, max_size=9),
)
def test_a_batch_may_hold_a_sample_anywhere_and_twice(name, severity, seed, order):
    ids, chosen = torch.arange(6) + 1000, torch.tensor(order)
    whole = corrupt(name, severity, SMALL, ids, seed)
    assert torch.equal(corrupt(name, severity, SMALL[chosen], ids[chosen], seed), whole[chosen])


@pytest.mark.parametrize("name", sorted(set(NAMES) - NOT_RANDOM))
def test_seed_and_sample_decide_what_is_random(name):
    images, ids = SMALL[:1].repeat(2, 1, 1, 1), torch.tensor([1, 2])
    one = corrupt(name, 3, images, ids, 0)
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one, corrupt(name, 3, images, ids, 1))
    assert torch.equal(one, corrupt(name, 3, images, ids, 0))


@pytest.mark.parametrize("name", sorted(NOT_RANDOM))
def test_the_others_are_the_same_for_every_sample(name):
    images = SMALL[:1].repeat(2, 1, 1, 1)
    one = corrupt(name, 3, images, torch.tensor([1, 2]), 0)
    assert torch.equal(one[0], one[1])


@pytest.mark.parametrize("name", UNCHANGED_IF_FLAT)
@pytest.mark.parametrize("value", [0, 1, 137, 255])
def test_a_flat_image_stays_under_what_moves_or_mixes_pixels(name, value):
    images = flat(value, 2)
    assert torch.equal(corrupt(name, 5, images, torch.arange(2), 0), images)


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.04), (5, 0.10)])
def test_gaussian_noise_has_the_published_deviation(severity, deviation):
    noise = corrupt("gaussian_noise", severity, flat(128), torch.arange(8), 0).double() - 128
    assert float(noise.std()) == pytest.approx(255 * deviation, rel=0.02)
    assert abs(float(noise.mean())) < 0.5
    neighbours = float((noise[:, :, :, 1:] * noise[:, :, :, :-1]).mean())
    assert abs(neighbours) < 0.03 * float(noise.var())


def test_shot_noise_of_a_dark_pixel_is_that_of_few_quanta():
    pixels = corrupt("shot_noise", 5, flat(51), torch.arange(8), 0).double()
    assert float(pixels.mean()) == pytest.approx(51, rel=0.01)
    assert float(pixels.var()) == pytest.approx(51 * 255 / 50, rel=0.05)
    assert (corrupt("shot_noise", 5, flat(0), torch.arange(8), 0) == 0).all()


def test_impulse_noise_makes_as_much_salt_as_pepper():
    pixels = corrupt("impulse_noise", 5, flat(100), torch.arange(8), 0)
    shares = [float((pixels == value).double().mean()) for value in (0, 255, 100)]
    assert shares == pytest.approx([0.035, 0.035, 0.93], abs=0.005)


def test_brightness_and_contrast_by_hand():
    images = torch.tensor([[[[10]], [[50]], [[100]]]], dtype=torch.uint8).expand(1, 3, 8, 8)
    brighter = corrupt("brightness", 3, images, torch.tensor([0]), 0)  # value 100 + 38.25
    assert brighter[0, :, 0, 0].tolist() == [14, 69, 138]
    images = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    images[:, :, :4] = 200
    flatter = corrupt("contrast", 2, images, torch.tensor([0]), 0)
    assert flatter[0, 0, :, 0].tolist() == [150] * 4 + [50] * 4


def test_glass_moves_pixels_by_one_at_most():
    pixels = torch.arange(16).repeat_interleave(2) * 16
    images = pixels.to(torch.uint8).expand(1, 1, 32, 32).contiguous()
    moved = corrupt("glass_blur", 1, images, torch.tensor([0]), 0)
    assert 0 < (moved != images).float().mean() < 0.5
    assert (moved.float() - images.float()).abs().max() == 16


@pytest.mark.parametrize("factor", [1.0, 1.13, 2.25])
def test_the_middle_is_enlarged_as_scipy_does_it(factor):
    image = SMALL[0].permute(1, 2, 0).numpy() / 255
    inside = -int(-32 // factor)
    first = (32 - inside) // 2
    cropped = image[first : first + inside, first : first + inside]
    enlarged = ndimage.zoom(cropped, (factor, factor, 1), order=1)
    trimmed = (len(enlarged) - 32) // 2
    wanted = enlarged[trimmed : trimmed + 32, trimmed : trimmed + 32]
    np.testing.assert_allclose(filters.zoomed(image, factor), wanted, atol=1e-12)


def dot(side):
    image = np.zeros((side, side, 1))
    image[side // 2, side // 2] = 1
    return image


def test_a_pixel_out_of_focus_is_a_round_disc_of_the_same_weight():
    for radius, softness in ((0.3, 0.4), (1.5, 0.1), (6.0, 0.5), (10.0, 0.5)):
        disc = filters.defocused(dot(31), radius, softness)[..., 0]
        assert disc.sum() == pytest.approx(1)
        np.testing.assert_allclose(disc, disc[::-1], atol=1e-15)
        np.testing.assert_allclose(disc, disc.T, atol=1e-15)
        distances = np.hypot(*(np.argwhere(disc > 1e-3) - 15).T)
        assert radius - 1 < distances.max() < radius + 3


def test_a_smear_reaches_into_its_direction_only():
    right, down = (filters.smeared(dot(21), 6, 2.0, degrees)[..., 0] for degrees in (180, -90))
    assert right[10, 10:].sum() == pytest.approx(1)
    assert down[10:, 10].sum() == pytest.approx(1)
    assert right[10, 10] > right[10, 11] > right[10, 12] > 0
    np.testing.assert_allclose(right.T, down, atol=1e-15)
    slanted = filters.smeared(dot(21), 6, 2.0, 225)[..., 0]
    assert np.trace(slanted) == pytest.approx(1)
    assert slanted[11, 11] > slanted[12, 12] > 0 == slanted[9, 9]


def test_three_points_go_where_an_affine_map_moves_them():
    moves = np.array([[-1.0, 2], [3, 0], [1, -4]])  # y, x of each point
    inverse = _affine((32, 40), moves)
    points = np.array([(26, 30), (6, 30), (6, 10)])  # the middle (16, 20) and 10 pixels from it
    for point, move in zip(points, moves, strict=True):
        assert inverse @ [*(point + move), 1] == pytest.approx(point)


def test_an_elastic_image_is_read_between_its_pixels():
    """Severity 1 of small images is an affine map: straight lines stay straight."""
    slope = (torch.arange(40)[:, None] * 2 + torch.arange(40) * 3).to(torch.uint8)
    bent = corrupt("elastic_transform", 1, slope[None, None], torch.tensor([0]), 0)[0, 0].numpy()
    middle = bent[12:28, 12:28].astype(float)
    for axis in (0, 1):
        assert np.abs(np.diff(middle, 2, axis=axis)).max() <= 2  # of rounding
        assert np.ptp(np.diff(middle, axis=axis)) <= 2


def test_clouds_fill_the_range_and_are_smoother_the_larger_the_decay():
    rough, smooth = clouds(0, 32, 32, 1.4), clouds(0, 32, 32, 3.0)
    for each in (rough, smooth):
        assert (each.min(), each.max()) == (0, 1)
    assert np.abs(np.diff(smooth)).mean() < 0.5 * np.abs(np.diff(rough)).mean()
    assert clouds(0, 9, 21).shape == (9, 21)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gausian_noise", 1, SMALL), "corruption=gausian_noise is not known, did you mean gaus"),
        (("fog", 1, SMALL.float()), "at least 8x8 pixels, not torch.float32 6x3x32x32"),
        (("fog", 1, SMALL[:, :2]), "not torch.uint8 6x2x32x32"),
        (("fog", 1, SMALL[:, :, :7]), "not torch.uint8 6x3x7x32"),
    ],
)
def test_images_that_cannot_be_corrupted_are_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt(*arguments, torch.arange(6), 0)


def test_no_images_are_no_error():
    assert corrupt("fog", 1, SMALL[:0], torch.arange(0), 0).shape == (0, 3, 32, 32)
