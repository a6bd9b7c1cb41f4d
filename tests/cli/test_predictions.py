"""Predictions as pictures and as text: what is drawn where, and in which colour."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from sms_dist.cli.predictions import WRONG, OpenedRun, Sample, picture, text
from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.sheet import LINE, MARGIN, colored

ANIMALS = DatasetInfo("animals", 9, 9, (3, 8, 8), ("cat", "dog", "cow"))
STREETS = DatasetInfo("streets", 9, 9, (3, 6, 8), ("sky", "road"), task="segmentation", void=2)
GREY = np.full((1, 8, 8), 128, np.uint8)
WANTED = np.array([[0, 0, 0, 0, 1, 1, 1, 2]] * 6, np.uint8)
FACTOR = 112 // 8  # by which images of 8 pixels are enlarged
TOP = MARGIN + LINE + MARGIN  # of the first row, below a head of one line


def opened(info: DatasetInfo | None, *names: str) -> OpenedRun:
    """Return a run as far as pictures and text need it."""
    context: Any = SimpleNamespace(info=info)
    models: Any = dict.fromkeys(names)
    return OpenedRun(context, models, ["head"])


def labelled(*guessed: int, wanted: int = 0) -> Sample:
    return Sample(3, GREY, wanted, tuple((number, 0.75) for number in guessed))


def scene(*masks: np.ndarray) -> Sample:
    image = np.full((3, 6, 8), 200, np.uint8)
    return Sample(0, image, WANTED, tuple((mask, 0.5) for mask in masks))


def has(drawn: Image.Image, colour: str) -> bool:
    return bool((np.asarray(drawn) == ImageColor.getrgb(colour)).all(2).any())


def tile(drawn: Image.Image, row: int, column: int) -> np.ndarray:
    """Return the pixels of a tile of a sheet of scenes, one for each of the mask."""
    height = 6 * FACTOR + LINE + MARGIN
    step = (drawn.width - 2 * MARGIN) // 3
    left, top = MARGIN + column * step, TOP + row * height
    pixels = np.asarray(drawn)[top : top + 6 * FACTOR, left : left + 8 * FACTOR]
    return pixels[FACTOR // 2 :: FACTOR, FACTOR // 2 :: FACTOR]


def colours(mask: np.ndarray) -> np.ndarray:
    """Return the colours of a mask of two classes, unscaled."""
    return np.asarray(colored(mask, 2))[FACTOR // 2 :: FACTOR, FACTOR // 2 :: FACTOR]


@pytest.mark.parametrize(("guessed", "is_red"), [((0, 0), False), ((0, 2), True), ((1, 1), True)])
def test_wrong_classes_are_red_and_right_ones_are_not(guessed, is_red):
    drawn = picture([labelled(*guessed)], opened(ANIMALS, "dense", "phase 1"))
    assert has(drawn, WRONG) == is_red


def test_images_are_enlarged_by_whole_factors_and_stay_as_they_are():
    drawn = picture([labelled(0)], opened(ANIMALS, "dense"))
    pixels = np.asarray(drawn)[TOP : TOP + 112, MARGIN : MARGIN + 112]
    assert (pixels == 128).all()


def test_many_images_go_on_in_the_next_row():
    one, many = (picture([labelled(0)] * number, opened(ANIMALS, "dense")) for number in (1, 30))
    assert many.width <= 1480 + 3 * MARGIN
    assert many.height > 2 * one.height


def test_a_row_is_image_wanted_mask_and_the_mask_of_each_model():
    sky = np.zeros((6, 8), np.uint8)
    drawn = picture([scene(sky), scene(1 - sky)], opened(STREETS, "dense"))
    assert (tile(drawn, 0, 0) == 200).all()
    assert (tile(drawn, 0, 1) == colours(WANTED)).all()
    assert (tile(drawn, 0, 1)[:, -1] == 0).all()  # void
    assert (tile(drawn, 0, 2) == colours(sky)).all()
    assert (tile(drawn, 1, 2) == colours(1 - sky)).all()


def test_colours_of_large_masks_are_not_mixed():
    mask = np.random.default_rng(0).integers(0, 3, (300, 1000), dtype=np.uint8)
    found = {tuple(pixel) for pixel in np.asarray(colored(mask, 2)).reshape(-1, 3).tolist()}
    known = np.asarray(colored(np.array([[0, 1, 2]], np.uint8), 2)).reshape(-1, 3)
    assert found == {tuple(pixel) for pixel in known.tolist()}


def test_models_differ_where_any_answer_does():
    assert labelled(1, 1, 2).is_disputed
    assert not labelled(1, 1, wanted=2).is_disputed
    mask = np.zeros((6, 8), np.uint8)
    assert scene(mask, mask, 1 - mask).is_disputed
    assert not scene(mask, mask.copy()).is_disputed
    assert not Sample(0, "a", "b", (("c", None), ("c", None))).is_disputed


def test_sentences_stand_below_each_other_without_what_a_terminal_would_obey():
    said = (("Zwei\x1b[2J", None), ("Zwei\nHunde", None))
    sample = Sample(7, "Two dogs.", "Zwei Hünde.", said)
    assert text([sample], opened(None, "dense", "phase 1")) == (
        "head\n\n#7\n"
        "  source     Two dogs.\n"
        "  reference  Zwei Hünde.\n"
        "  dense      Zwei\ufffd[2J\n"
        "  phase 1    Zwei\ufffdHunde\n"
    )
