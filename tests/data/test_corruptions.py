"""Generated corruptions: functions of a sample's address that do what their names say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from sms_dist.base.randomness import stream
from sms_dist.data.corruptions import BENCHMARK, EXTRAS, filters
from sms_dist.data.corruptions.digital import _affine
from sms_dist.data.corruptions.generate import CORRUPTIONS, corrupt
from sms_dist.data.corruptions.textures import normal, plasma, smooth

NAMES = (*BENCHMARK, *EXTRAS)
UNCHANGED_IF_FLAT = (
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    *("contrast", "elastic_transform", "pixelate"),
)
# Bent, then crumpled; bright ice, then dark; water, then mud: stronger to the eye, not to a ruler.
OTHER_AT_LAST = {"elastic_transform", "frost", "spatter"}
NOT_RANDOM = {
    *("defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "contrast", "saturate"),
    *("pixelate", "jpeg_compression"),
}


def scenes(num_images, channels, height, width):
    """Clouds of colour with a bright box: smooth places and edges, as photographs have."""
    side = 2 ** int(np.ceil(np.log2(max(height, width))))
    ids = torch.arange(num_images * channels)
    clouds = plasma(stream(0, "scenes").uniform(ids, side**2), side, 1.6)[:, :height, :width]
    images = (clouds.view(num_images, channels, height, width) * 180).to(torch.uint8)
    images[:, :, height // 3 : height // 2, width // 4 : width // 2] += 70
    return images


SMALL, LARGE = scenes(6, 3, 32, 32), scenes(3, 3, 64, 80)


def flat(value, num_images=8):
    return torch.full((num_images, 3, 32, 32), value, dtype=torch.uint8)


def distance(name, severity, images):
    corrupted = corrupt(name, severity, images, torch.arange(len(images)), 0)
    return float((corrupted.float() - images.float()).square().mean())


def test_there_are_fifteen_corruptions_and_four_more():
    assert list(CORRUPTIONS) == list(NAMES)
    assert (len(BENCHMARK), len(EXTRAS)) == (15, 4)


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


def test_saturation_scales_the_distance_from_the_brightest_colour():
    images = torch.tensor([[[[100]], [[150]], [[200]]]], dtype=torch.uint8).expand(1, 3, 8, 8)
    paler = corrupt("saturate", 1, images, torch.tensor([0]), 0)
    assert paler[0, :, 0, 0].tolist() == [170, 185, 200]
    grey = flat(80, 1)
    assert torch.equal(corrupt("saturate", 1, grey, torch.tensor([0]), 0), grey)


def test_glass_moves_pixels_by_one_at_most():
    pixels = torch.arange(16).repeat_interleave(2) * 16
    images = pixels.to(torch.uint8).expand(1, 1, 32, 32).contiguous()
    moved = corrupt("glass_blur", 1, images, torch.tensor([0]), 0)
    assert 0 < (moved != images).float().mean() < 0.5
    assert (moved.float() - images.float()).abs().max() == 16


def test_filters_are_those_of_scipy():
    images = SMALL[:2].float()
    for sigma in (0.4, 1.0, 3.0):
        wanted = ndimage.gaussian_filter(images.numpy(), (0, 0, sigma, sigma), mode="nearest")
        np.testing.assert_allclose(filters.gaussian(images, sigma), wanted, atol=0.02)
    field = torch.rand(1, 20, 12, generator=torch.Generator().manual_seed(0))
    for sigma in (1.0, 4.0, 30.0):
        wanted = ndimage.gaussian_filter(
            field[0].numpy() * 2 - 1, sigma, mode="reflect", truncate=3
        )
        np.testing.assert_allclose(smooth(field, sigma)[0], wanted, atol=2e-4)
    image = images[0, 0]
    for factor in (1.0, 1.13, 2.25):
        inside = -(-32 // factor)
        first = int(32 - inside) // 2
        cropped = image[first : first + int(inside), first : first + int(inside)].numpy()
        enlarged = ndimage.zoom(cropped, factor, order=1)
        trimmed = (len(enlarged) - 32) // 2
        wanted = enlarged[trimmed : trimmed + 32, trimmed : trimmed + 32]
        found = filters.zoomed(image[:, :, None], factor)[:, :, 0]
        np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_a_disc_weighs_one_and_is_round():
    for radius, softness in ((0.3, 0.4), (1.5, 0.1), (6.0, 0.5), (10.0, 0.5)):
        kernel = filters.disc(radius, softness)
        assert kernel.sum() == pytest.approx(1)
        np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-15)
        np.testing.assert_allclose(kernel, kernel.T, atol=1e-15)
        assert len(kernel) % 2 == 1


def test_a_smear_reaches_into_its_direction_only():
    image = torch.zeros(2, 1, 21, 21)
    image[:, :, 10, 10] = 1
    right, down = filters.smear(image, 6, 2.0, torch.tensor([180.0, -90.0], dtype=torch.float64))
    assert right[0, 10, 10:].sum() == pytest.approx(1, abs=1e-4)
    assert down[0, 10:, 10].sum() == pytest.approx(1, abs=1e-4)
    assert right[0, 10, 11] > right[0, 10, 12] > 0


def test_bent_images_keep_their_place_where_nothing_moves():
    y, x = torch.meshgrid(*(torch.arange(32, dtype=torch.float64),) * 2, indexing="ij")
    images = SMALL[:1].float()
    assert torch.equal(filters.bilinear(images, y[None], x[None], repeat_edge=False), images)
    shifted = filters.bilinear(images, y[None], x[None] + 0.5, repeat_edge=True)
    assert torch.equal(shifted[..., :-1], (images[..., 1:] + images[..., :-1]) / 2)
    assert torch.equal(shifted[..., -1], images[..., -1])


def test_three_points_go_where_an_affine_map_moves_them():
    moves = torch.tensor([[2.0, -1, 0, 3, -4, 1]], dtype=torch.float64)  # x, y of each point
    y, x = _affine(moves, 32, 40)
    points = [(30, 26), (30, 6), (10, 6)]  # x, y: the middle (20, 16) and 10 pixels from it
    for (px, py), (mx, my) in zip(points, moves.view(3, 2).int().tolist(), strict=True):
        found = (float(x[0, py + my, px + mx]), float(y[0, py + my, px + mx]))
        assert found == pytest.approx((px, py))


def test_normal_numbers_are_normal():
    numbers = normal(stream(0, "normal").uniform(torch.arange(100), 1000)).double()
    assert abs(float(numbers.mean())) < 0.01
    assert float(numbers.var()) == pytest.approx(1, abs=0.02)
    assert float((numbers.abs() < 1).double().mean()) == pytest.approx(0.6827, abs=0.005)


def test_clouds_fill_the_range():
    clouds = plasma(stream(0, "clouds").uniform(torch.arange(3), 32 * 32), 32, 2.0)
    assert clouds.amin((1, 2)).tolist() == [0, 0, 0]
    assert clouds.amax((1, 2)).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gausian_noise", 1, SMALL), "corruption=gausian_noise is not known, did you mean gaus"),
        (("fog", 0, SMALL), "severity=0 is not one of 1 to 5"),
        (("fog", 1, SMALL.float()), "need uint8 images N x C x H x W, not torch.float32 6x3x32x32"),
        (("fog", 1, SMALL[:, :2]), "not 2x32x32"),
        (("fog", 1, SMALL[:, :, :7]), "at least 8x8 pixels, not 3x7x32"),
    ],
)
def test_what_cannot_be_corrupted_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        corrupt(*arguments, torch.arange(6), 0)


def test_no_images_are_no_error():
    assert corrupt("fog", 1, SMALL[:0], torch.arange(0), 0).shape == (0, 3, 32, 32)
