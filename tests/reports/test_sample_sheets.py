"""Predictions as pictures and as text: what is drawn where, and in which colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from sms_dist.data.dataset import DatasetInfo
from sms_dist.data.sheet import LINE, MARGIN, colours
from sms_dist.reports.sample_sheets import WRONG, labelled_sheet, scene_sheet
from sms_dist.reports.sample_texts import sentences_text
from sms_dist.tasks.samples import Guess, LabelledImage, Prediction, Scene, Sentence

ANIMALS = DatasetInfo("animals", 9, 9, (3, 8, 8), ("cat", "dog", "cow"))
STREETS = DatasetInfo("streets", 9, 9, (3, 6, 8), ("sky", "road"), task="segmentation", void=2)
GREY = np.full((1, 8, 8), 128, np.uint8)
FACTOR = 112 // 8  # by which images of 8 pixels are enlarged
TOP = MARGIN + LINE + MARGIN  # of the first row, below a head of one line


def labelled(*guessed: int, wanted: int = 0) -> LabelledImage:
    return LabelledImage(3, GREY, wanted, tuple(Guess(number, 0.75) for number in guessed))


def has(picture: Image.Image, colour: str) -> bool:
    return bool((np.asarray(picture) == ImageColor.getrgb(colour)).all(2).any())


def scene(*masks: np.ndarray, miou: float | None = 0.5) -> Scene:
    image = np.full((3, 6, 8), 200, np.uint8)
    wanted = np.array([[0, 0, 0, 0, 1, 1, 1, 2]] * 6, np.uint8)
    return Scene(0, image, wanted, tuple(Prediction(mask, miou) for mask in masks))


def tile(picture: Image.Image, row: int, column: int) -> np.ndarray:
    """The pixels of a tile of a scene sheet, one for each of the mask."""
    height = 6 * FACTOR + LINE + MARGIN
    step = (picture.width - 2 * MARGIN) // 3
    left, top = MARGIN + column * step, TOP + row * height
    pixels = np.asarray(picture)[top : top + 6 * FACTOR, left : left + 8 * FACTOR]
    return pixels[FACTOR // 2 :: FACTOR, FACTOR // 2 :: FACTOR]


@pytest.mark.parametrize(("guessed", "is_red"), [((0, 0), False), ((0, 2), True), ((1, 1), True)])
def test_wrong_classes_are_red_and_right_ones_are_not(guessed, is_red):
    picture = labelled_sheet([labelled(*guessed)], ["head"], ["dense", "phase 1"], ANIMALS)
    assert has(picture, WRONG) == is_red


def test_images_are_enlarged_by_whole_factors_and_stay_as_they_are():
    picture = labelled_sheet([labelled(0)], ["head"], ["dense"], ANIMALS)
    pixels = np.asarray(picture)[TOP : TOP + 112, MARGIN : MARGIN + 112]
    assert (pixels == 128).all()


def test_many_images_go_on_in_the_next_row():
    one, many = (
        labelled_sheet([labelled(0)] * number, ["head"], ["dense"], ANIMALS) for number in (1, 30)
    )
    assert many.width <= 1480 + 3 * MARGIN
    assert many.height > 2 * one.height


def test_a_row_is_image_wanted_mask_and_the_mask_of_each_model():
    found = np.zeros((6, 8), np.uint8)
    picture = scene_sheet([scene(found), scene(1 - found)], ["head"], ["dense"], STREETS)
    table = colours(2)
    assert (tile(picture, 0, 0) == 200).all()
    assert (tile(picture, 0, 1) == table[scene(found).wanted]).all()
    assert (tile(picture, 0, 1)[:, -1] == 0).all()  # void
    assert (tile(picture, 0, 2) == table[0]).all()
    assert (tile(picture, 1, 2) == table[1]).all()


def test_colours_of_large_masks_are_not_mixed():
    mask = np.random.default_rng(0).integers(0, 3, (300, 1000), dtype=np.uint8)
    large = Scene(0, np.zeros((3, 300, 1000), np.uint8), mask, (Prediction(mask, None),))
    picture = scene_sheet([large], ["head"], ["dense"], STREETS)
    pixels = np.asarray(picture)[TOP : TOP + 50, 300:580].reshape(-1, 3)
    known = {tuple(colour) for colour in colours(2)[:3].tolist()}
    assert {tuple(pixel) for pixel in pixels.tolist()} == known


def test_models_differ_where_any_answer_does():
    assert labelled(1, 1, 2).is_disputed
    assert not labelled(1, 1, wanted=2).is_disputed
    mask = np.zeros((6, 8), np.uint8)
    assert scene(mask, mask, 1 - mask).is_disputed
    assert not scene(mask, mask.copy()).is_disputed
    assert not Sentence(0, "a", "b", ("c", "c")).is_disputed


def test_sentences_stand_below_each_other_without_what_a_terminal_would_obey():
    sample = Sentence(7, "Two dogs.", "Zwei Hünde.", ("Zwei\x1b[2J", "Zwei\nHunde"))
    assert sentences_text([sample], ["head"], ["dense", "phase 1"]) == (
        "head\n\n#7\n"
        "  source     Two dogs.\n"
        "  reference  Zwei Hünde.\n"
        "  dense      Zwei\ufffd[2J\n"
        "  phase 1    Zwei\ufffdHunde\n"
    )
