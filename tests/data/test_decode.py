"""From bytes to samples: what a card makes of them, and what it refuses."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from sms_dist.data.card import Card
from sms_dist.data.decode import Decoded, decode, fit
from sms_dist.data.prepare.writer import png

HALF = (0.5, 0.5, 0.5)
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (3, 20, 30), dtype=np.uint8)
MASK = RANDOM.integers(0, 4, (20, 30), dtype=np.uint8)


def card(**changes):
    facts = {"name": "x", "size": (8, 8), "classes": 4, "mean": HALF, "std": HALF}
    return Card(**(facts | changes))


def masks(**changes):
    return card(task="segmentation", target="seg.png", void=9, **changes)


def attributes(**changes):
    facts = {"target": "json:Blond", "classes": ("dark", "blond")}
    groups = {"subgroup": "json:Male", "subgroup_names": ("woman", "man")}
    return card(**facts, **groups, **changes)


def jpeg(mode):
    buffer = io.BytesIO()
    Image.new(mode, (30, 20), 200 if mode == "L" else (200,) * len(mode)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_class_and_an_image_are_what_was_stored():
    image, target, subgroup = decode(card(), {"png": png(IMAGE), "cls": b" 3\n"}, "x")
    assert np.array_equal(image, IMAGE)
    assert (target, subgroup) == (3, None)


def test_a_mask_is_what_was_stored():
    mask = MASK.copy()
    mask[0] = 9
    found = decode(masks(), {"png": png(IMAGE), "seg.png": png(mask)}, "x")
    assert np.array_equal(found.target, mask)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_any_photograph_has_the_channels_of_the_card(mode):
    fields = {"jpg": jpeg(mode), "cls": b"0"}
    assert decode(card(), fields, "x").image.shape == (3, 20, 30)
    grey = card(channels=1, mean=(0.5,), std=(0.5,))
    assert decode(grey, fields, "x").image.shape == (1, 20, 30)


def test_a_palette_of_a_mask_is_not_looked_up():
    picture = Image.fromarray(MASK).convert("P")
    picture.putdata(MASK.ravel())
    picture.putpalette(list(range(255, -1, -1)) * 3)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    found = decode(masks(), {"png": png(IMAGE), "seg.png": buffer.getvalue()}, "x")
    assert np.array_equal(found.target, MASK)


@pytest.mark.parametrize("kind", [int, bool])
def test_a_subgroup_is_an_attribute_and_a_class(kind):
    for subgroup, (male, blond) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        values = json.dumps({"Blond": kind(blond), "Male": kind(male)})
        found = decode(attributes(), {"png": png(IMAGE), "json": values.encode()}, "x")
        assert (found.target, found.subgroup) == (blond, subgroup)
    names = ("woman-dark", "woman-blond", "man-dark", "man-blond")
    assert attributes().info.subgroups == names


@pytest.mark.parametrize(
    ("card", "fields", "message"),
    [
        (card(), {"cls": b"1"}, "has no image"),
        (card(), {"png": png(IMAGE)}, r"has no class \(\.cls\)"),
        (card(), {"png": png(IMAGE), "cls": b"4"}, "class '4', not one of 0 to 3"),
        (card(), {"png": png(IMAGE), "cls": b"1.0"}, "class '1.0'"),
        (card(), {"png": png(IMAGE), "cls": "\u0663".encode()}, "class"),
        (card(), {"png": png(IMAGE), "cls": b"9" * 9999}, "class"),
        (card(), {"png": png(IMAGE)[:-30], "cls": b"1"}, "cannot be decoded"),
        (card(), {"png": b"", "cls": b"1"}, "cannot be decoded"),
        (card(fit="exact"), {"png": png(IMAGE), "cls": b"1"}, "30x20 pixels, not 8x8"),
        (masks(), {"png": png(IMAGE)}, r"has no mask \(.seg.png\)"),
        (masks(), {"png": png(IMAGE), "seg.png": png(MASK + 1)}, "value 4, not one of 0 to 3 or 9"),
        (masks(), {"png": png(IMAGE), "seg.png": png(MASK[1:])}, "mask of 30x19 pixels, not 30x20"),
        (masks(), {"png": png(IMAGE), "seg.png": png(IMAGE)}, "mask of mode RGB"),
        (masks(), {"png": png(IMAGE), "seg.png": b"x"}, "mask that cannot be decoded"),
        (attributes(), {"png": png(IMAGE)}, r"has no class \(\.json\)"),
        (attributes(), {"png": png(IMAGE), "json": b"{"}, ".json file that cannot be read"),
        (attributes(), {"png": png(IMAGE), "json": b"[" * 99999}, ".json file that cannot be read"),
        (attributes(), {"png": png(IMAGE), "json": b"[1]"}, "has no Blond"),
        (attributes(), {"png": png(IMAGE), "json": b'{"Blond": 1}'}, "has no Male"),
        (
            attributes(),
            {"png": png(IMAGE), "json": b'{"Blond": -1, "Male": 1}'},
            "'-1' as Blond",
        ),
        (
            attributes(),
            {"png": png(IMAGE), "json": b'{"Blond": 1, "Male": 2}'},
            "'2' as Male",
        ),
    ],
)
def test_a_bad_sample_is_one_line_that_names_it(card, fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        decode(card, fields, "x.tar: sample a")
    assert str(caught.value).startswith("x.tar: sample a has")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_enormous_image_is_refused_before_it_is_decoded():
    buffer = io.BytesIO()
    Image.new("1", (9000, 8000)).save(buffer, "PNG")
    with pytest.raises(ValueError, match="9000x8000 pixels, more than"):
        decode(card(), {"png": buffer.getvalue(), "cls": b"1"}, "x")


def test_scaling_averages_images_and_picks_from_masks():
    found = fit(masks(size=(10, 15)), Decoded(IMAGE, MASK))
    assert found.image.shape == (3, 10, 15)
    means = IMAGE.reshape(3, 10, 2, 15, 2).mean((2, 4))
    assert abs(found.image.mean() - means.mean()) < 1
    assert np.abs(found.image[:, 3:7, 4:9] - means[:, 3:7, 4:9]).mean() < 40
    four = [MASK[i::2, j::2] for i in (0, 1) for j in (0, 1)]
    assert any(np.array_equal(found.target, part) for part in four)


def test_the_right_size_changes_nothing():
    found = fit(masks(size=(20, 30)), Decoded(IMAGE, MASK))
    assert np.array_equal(found.image, IMAGE)
    assert np.array_equal(found.target, MASK)


def test_masks_are_cut_as_their_images_are_also_where_those_have_the_size_already():
    values = MASK.repeat(8, 0).repeat(8, 1)  # 160 x 240
    sample = Decoded(np.stack([values] * 3), values)
    found = fit(masks(size=(160, 240), fit="crop"), sample)
    assert not np.array_equal(found.target, values)
    differs = found.image[0] != found.target  # where colours are mixed, between two values
    assert differs.mean() < 0.3


def test_the_centre_is_cut_out_of_seven_eighths_of_the_shorter_side():
    picture = np.zeros((3, 64, 128), np.uint8)
    picture[:, 4:60, 36:92] = 255  # 56 of 64
    found = fit(card(size=(28, 28), fit="crop"), Decoded(picture, 0)).image
    assert found[:, 1:-1, 1:-1].min() == 255
    edge = [found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]]
    assert all(0 < side.min() < 255 for side in edge)  # a little of what is beside it
