"""From bytes to samples: what a card makes of them, and what it refuses."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

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


def raw_png(depth, kind, rows, *chunks):
    """Return a PNG of the bit depth and colour type; `rows`: h x w x channels of values."""
    height, width, _ = rows.shape
    bits = np.unpackbits(rows.reshape(height, -1, 1).astype(">u2").view(np.uint8), axis=2)
    packed = np.packbits(bits[:, :, -depth:].reshape(height, -1), axis=1)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def turned(image, orientation, form="PNG", **options):
    """Return the bytes of an image that is seen upright when turned as the EXIF tag says."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(buffer, form, exif=exif, **options)
    return buffer.getvalue()


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


@pytest.mark.parametrize(("kind", "bands"), [(0, 1), (2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_png_of_any_depth_is_scaled_to_8_bits_without_its_alpha(kind, bands, depth):
    if depth < 8 and kind != 0:
        return  # PNG has no such images
    values = RANDOM.integers(0, 2**depth, (20, 30, bands))
    colours = values[..., : 3 if bands > 2 else 1].transpose(2, 0, 1)
    wanted = colours * 255 // (2**depth - 1) if depth < 16 else colours >> 8
    see_through = [(b"tRNS", bytes(2 * bands))] if kind in (0, 2) else []
    fields = {"png": raw_png(depth, kind, values, *see_through), "cls": b"0"}
    image = decode(card(), fields, "x").image
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.broadcast_to(wanted, (3, 20, 30)))
    grey = decode(card(channels=1, mean=(0.5,), std=(0.5,)), fields, "x").image
    luma = np.tensordot([0.299, 0.587, 0.114][: len(wanted)], wanted, 1)
    assert np.abs(grey[0] - (luma if bands > 2 else wanted[0])).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_an_image_with_a_palette_has_its_colours(depth):
    values = RANDOM.integers(0, 2**depth, (20, 30, 1))
    palette = RANDOM.integers(0, 256, (2**depth, 3), dtype=np.uint8)
    see_through = (b"tRNS", bytes(2**depth))
    fields = {"png": raw_png(depth, 3, values, (b"PLTE", palette.tobytes()), see_through)}
    image = decode(card(), fields | {"cls": b"0"}, "x").image
    assert np.array_equal(image.transpose(1, 2, 0), palette[values[..., 0]])


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_mask_has_the_values_that_are_stored_whatever_its_depth(depth):
    values = RANDOM.integers(0, min(4, 2**depth), (20, 30, 1))
    fields = {"png": png(IMAGE), "seg.png": raw_png(depth, 0, values)}
    found = decode(masks(), fields, "x").target
    assert found.dtype == np.uint8
    assert np.array_equal(found, values[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("JPEG", {"quality": 100})])
def test_images_and_masks_are_turned_as_people_see_them(orientation, form, options):
    picture = Image.fromarray(np.stack([MASK * 60] * 3, axis=2).repeat(8, 0).repeat(8, 1))
    data = turned(picture, orientation, form, **options)
    seen = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    size = seen.shape[:2]
    assert size == ((160, 240) if orientation < 5 else (240, 160))
    mask = png(np.ascontiguousarray(seen[..., 0] // 50))
    exact = masks(fit="exact", size=size)
    found = decode(exact, {"png": data, "seg.png": mask}, "x")
    assert np.array_equal(found.image, seen.transpose(2, 0, 1))
    if form == "PNG":
        stored = turned(Image.fromarray(MASK.repeat(8, 0).repeat(8, 1)), orientation)
        assert np.array_equal(
            decode(exact, {"png": data, "seg.png": stored}, "x").target, found.image[0] // 60
        )
    if orientation >= 5:
        with pytest.raises(ValueError, match="has an image of 160x240 pixels, not 240x160"):
            decode(masks(fit="exact", size=size[::-1]), {"png": data, "seg.png": mask}, "x")


@pytest.mark.parametrize("exif", [b"Exif\0\0none of it", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_an_exif_block_that_says_nothing_turns_nothing(exif):
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20)).save(buffer, "JPEG", exif=exif)
    assert decode(card(), {"jpg": buffer.getvalue(), "cls": b"0"}, "x").image.shape == (3, 20, 30)


def file(form, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.new(mode, (30, 20)).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (file("TIFF", "F"), "it is TIFF; convert it to PNG or JPEG of 8 or 16 bits"),
        (file("TIFF", "I;16"), "it is TIFF"),
        (file("GIF"), "it is GIF"),
        (file("BMP"), "it is BMP"),
        (file("WEBP"), "it is WebP"),
        (file("JPEG2000"), "it is JPEG 2000"),
        (file("PNG", save_all=True, append_images=[Image.new("RGB", (30, 20), 9)]), "is animated"),
    ],
)
def test_what_is_not_decoded_is_refused_by_its_name(data, message):
    with pytest.raises(ValueError, match=message):
        decode(card(), {"png": data, "cls": b"0"}, "x")


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
        (masks(), {"png": png(IMAGE), "seg.png": png(IMAGE)}, "mask of mode RGB; write the number"),
        (masks(), {"png": png(IMAGE), "seg.png": file("PNG", "LA")}, "mask of mode LA"),
        (masks(), {"png": png(IMAGE), "seg.png": file("JPEG", "L")}, "mask that is JPEG"),
        (
            masks(),
            {"png": png(IMAGE), "seg.png": raw_png(16, 0, MASK[..., None].astype(int) * 99)},
            "value 99",
        ),
        (
            card(),
            {"a.png": png(IMAGE), "cls": b"1"},
            r"field a\.png, which begins at the first dot",
        ),
        (card(), {"tif": b"", "cls": b"1"}, r"has no image \(png, jpg, jpeg\) but tif"),
        (masks(), {"png": png(IMAGE), "b.seg.png": b""}, r"but a field b\.seg\.png, which begins"),
        (card(), {"png": png(IMAGE), "7.cls": b"1"}, r"no class \(\.cls\) but a field 7\.cls"),
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
