"""Cards: what they may say, and how their mistakes are told."""

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from sms_dist import data
from sms_dist.config import DataConfig
from sms_dist.data import card
from sms_dist.data.prepare.writer import labelled, png, write

CARD = """
name: birds
size: [8, 8]
classes: [tit, owl, kite]
mean: [0.5, 0.5, 0.5]
std: [0.2, 0.2, 0.2]
"""
MASKS = CARD + "task: segmentation\ntarget: seg.png\nvoid: 255\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "card.yaml").write_text(CARD)
    return tmp_path


def config(folder, **changes):
    return DataConfig(name="card", path=str(folder), **changes)


def silent(line):
    pass


def birds(folder, name="birds", counts=(6, 3), size=8):
    """Shards of random images whose class is their number modulo 3."""
    pixels = np.random.default_rng(0).integers(0, 256, (sum(counts), 3, size, size), np.uint8)
    images = [(f"{i:03d}", image, i % 3) for i, image in enumerate(pixels)]
    splits = {"train": labelled(images[: counts[0]]), "test": labelled(images[counts[0] :])}
    write(folder, name, ["tit", "owl", "kite"], splits, 4, silent, {"card.yaml": CARD})
    return pixels


def test_shards_of_your_own_are_read_by_their_card(tmp_path):
    pixels = birds(tmp_path / "set")
    read = data.load(config(tmp_path / "set", validation=0.0))
    assert read.info.name == "birds"
    assert read.info.classes == ("tit", "owl", "kite")
    assert (read.info.num_train, read.info.num_test) == (6, 3)
    assert np.array_equal(read.train.images, pixels[:6])
    assert read.train.targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert read.mean == (0.5, 0.5, 0.5)


def test_data_size_scales_what_is_read(tmp_path):
    birds(tmp_path / "set", size=16)
    read = data.load(config(tmp_path / "set", size=(4, 6)))
    assert read.info.input_shape == (3, 4, 6)
    assert read.train.images.shape[1:] == (3, 4, 6)
    assert data.load(config(tmp_path / "set")).test.images.shape == (3, 3, 8, 8)


def test_the_facts_of_a_card_need_no_torch_and_no_shard(tmp_path):
    birds(tmp_path / "set")
    for shard in (tmp_path / "set").glob("*.tar"):
        shard.unlink()
    code = (
        "import sys; from sms_dist import data; from sms_dist.config import DataConfig;"
        f"facts = data.info(DataConfig(name='card', path={str(tmp_path / 'set')!r}));"
        "assert facts.num_train == 6; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_an_index_the_card_must_say_how_many_samples_there_are(tmp_path):
    folder = tmp_path / "set"
    birds(folder)
    (folder / "index.json").unlink()
    with pytest.raises(ValueError, match=r"no index\.json.*`sms-dist data index .*set`"):
        data.info(config(folder))
    (folder / "card.yaml").write_text(CARD + "samples: {train: 6, test: 3}\n")
    assert data.info(config(folder)).num_train == 6
    assert len(data.load(config(folder, validation=0.0)).train) == 6
    (folder / "card.yaml").write_text(CARD + "samples: {train: 7, test: 3}\n")
    with pytest.raises(ValueError, match="train has 6 samples instead of 7"):
        data.load(config(folder))


def test_patterns_choose_the_shards_where_there_is_no_index(tmp_path):
    folder = tmp_path / "set"
    birds(folder)
    (folder / "index.json").unlink()
    extra = "samples: {train: 3, test: 6}\nshards: {train: ['*test*'], test: ['*train*']}\n"
    (folder / "card.yaml").write_text(CARD + extra)
    read = data.load(config(folder, validation=0.0))
    assert (len(read.train), len(read.test)) == (3, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colour: red", "colour is not a key.*valid values: name, reader, task"),
        ("klasses: 3", "klasses is not a key, did you mean classes"),
        ("size: 8", "size"),
        ("size: [0, 8]", "size"),
        ("name: ../up", "name"),
        ("classes: 1", "classes needs at least two"),
        ("classes: [owl, owl]", "classes needs at least two different"),
        ("mean: [0.5]", "mean needs 3 values"),
        ("channels: 1", "mean needs 1 values"),
        ("std: [0.2, 0, 0.2]", "std"),
        ("std: [0.2, .nan, 0.2]", "nan is no finite number"),
        ("mean: [120, 120, 120]", "mean"),
        ("augment: scale_crop", "augment"),
        ("augment: scale_crop_flip", "need task=segmentation"),
        ("void: 5", "need task=segmentation"),
        ("target: /etc/passwd", "target"),
        ("subgroup: 'json:Male'", "subgroup and subgroup_names belong together"),
        ("shards: {train: ['../*'], test: ['*']}", "shards.train"),
        ("samples: {train: 0, test: 1}", "samples.train"),
        ("name: &a x\ntarget: *a", "has a reference"),
        ("size: " + 20 * "[" + "8" + 20 * "]", "nested too deep"),
        ("- 1", "not YAML"),
        ("name: !!python/object/apply:os.system [ls]", "not YAML"),
        ("size: [20000, 20000]", "is more than 67108864 pixels"),
        ("classes: 1000000000", "classes"),
        ("samples: {train: 5, test: 5, val: 5}", "val is not a key"),
        (
            "shards: {train: ['[[a-'], test: [b], val: [c]}",
            "val is not a key; valid values: train, test",
        ),
        ("size: [8, 8]\nsize: [9, 9]", "there twice"),
    ],
)
def test_a_mistake_in_a_card_is_one_line_that_names_the_file(folder, change, message):
    key = change.partition(":")[0]
    kept = [line for line in CARD.splitlines() if line.partition(":")[0] != key]
    (folder / "card.yaml").write_text("\n".join([*kept, change]))
    with pytest.raises(ValueError, match=message) as caught:
        card.read(folder / card.FILE)
    assert str(caught.value).startswith(str(folder / "card.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("void: 2", "void=2 must be 3 or more"),
        ("target: cls", "masks are PNG"),
        ("augment: crop_flip", "crop_flip does not move masks; valid values: none, flip, scale"),
        ("void: null\naugment: scale_crop_flip", "scale_crop_flip needs void"),
    ],
)
def test_a_card_of_masks_fits_together(folder, change, message):
    key = change.partition(":")[0]
    kept = [line for line in MASKS.splitlines() if line.partition(":")[0] != key]
    (folder / "card.yaml").write_text("\n".join([*kept, change]))
    with pytest.raises(ValueError, match=message):
        card.read(folder / card.FILE)


def test_a_card_that_is_missing_too_large_or_a_list_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        data.info(config(tmp_path))
    with pytest.raises(ValueError, match=r"needs data\.path"):
        data.info(DataConfig(name="card"))
    (tmp_path / "card.yaml").write_text("a: " + "b" * card.MAX_BYTES)
    with pytest.raises(ValueError, match="larger than"):
        card.read(tmp_path / card.FILE)
    (tmp_path / "card.yaml").write_text("- 1\n- 2\n")
    with pytest.raises(ValueError, match="is not a mapping"):
        card.read(tmp_path / card.FILE)


def test_an_index_whose_name_or_classes_differ_from_the_card_is_refused(tmp_path):
    folder = tmp_path / "set"
    birds(folder)
    (folder / "card.yaml").write_text(CARD.replace("kite", "hawk"))
    with pytest.raises(ValueError, match=r"class 2 of birds is hawk.* kite"):
        data.info(config(folder))
    (folder / "card.yaml").write_text(CARD.replace("[tit, owl, kite]", "4"))
    with pytest.raises(ValueError, match=r"birds has 4 classes, but .* holds 3"):
        data.info(config(folder))
    (folder / "card.yaml").write_text(CARD.replace("birds", "fish"))
    with pytest.raises(ValueError, match="holds birds"):
        data.info(config(folder))


def test_a_card_with_a_number_of_classes_takes_their_names_from_the_index(tmp_path):
    folder = tmp_path / "set"
    birds(folder)
    (folder / "card.yaml").write_text(CARD.replace("[tit, owl, kite]", "3"))
    assert data.info(config(folder)).classes == ("tit", "owl", "kite")


def test_masks_are_read_with_their_images(tmp_path):
    folder = tmp_path / "set"
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8)
    masks = np.random.default_rng(1).integers(0, 3, (3, 8, 8), np.uint8)
    masks[:, 0] = 255
    samples = [
        (f"{i}", {"png": png(image), "seg.png": png(mask)})
        for i, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    splits = {"train": samples[:2], "test": samples[2:]}
    write(folder, "birds", ["tit", "owl", "kite"], splits, 4, silent, {"card.yaml": MASKS})
    read = data.load(config(folder, validation=0.0))
    assert read.info.task == "segmentation"
    assert read.info.void == 255
    assert np.array_equal(read.train.targets, masks[:2])
    assert np.array_equal(read.test.images, images[2:])
    scaled = data.load(config(folder, validation=0.0, size=(4, 4))).train.targets
    assert scaled.shape == (2, 4, 4)
    assert set(scaled.unique().tolist()) <= {0, 1, 2, 255}


def test_more_images_than_memory_are_refused_before_they_are_read(tmp_path):
    folder = tmp_path / "set"
    birds(folder)
    (folder / "index.json").unlink()
    (folder / "card.yaml").write_text(CARD + "samples: {train: 1000000000000, test: 3}\n")
    with pytest.raises(ValueError, match=r"192000 GB.*data\.loader=streaming"):
        data.load(config(folder))


def test_the_documentation_names_every_data_set_and_every_key_of_a_card():
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    kinds = (card.Card, card.TextCard, card.Download)
    keys = [key for kind in kinds for key in kind.model_fields]
    assert [key for key in (*keys, *card.names(), *data.READERS) if f"`{key}`" not in text] == []
    assert [name for name in get_args(card.AugmentName) if f"| {name} |" not in text] == []


@pytest.mark.parametrize("name", [name for name in card.names() if name != card.OWN])
def test_a_card_of_ours_has_the_name_of_its_file_and_a_reader(name):
    found = card.read(card.path_of(name, None))
    assert found.name == name
    assert found.reader in data.READERS


def test_data_name_may_be_the_path_of_a_card(tmp_path):
    pixels = birds(tmp_path / "set")
    path = tmp_path / "elsewhere.yaml"
    path.write_text(CARD.replace("[0.2, 0.2, 0.2]", "[0.3, 0.3, 0.3]"))
    (tmp_path / "set" / "card.yaml").unlink()
    read = data.load(DataConfig(name=str(path), path=str(tmp_path / "set"), validation=0.0))
    assert np.array_equal(read.train.images, pixels[:6])
    assert read.std == (0.3, 0.3, 0.3)
    with pytest.raises(ValueError, match=r"nowhere\.yaml: there is no such file"):
        data.info(DataConfig(name=str(tmp_path / "nowhere.yaml")))


def test_an_unknown_reader_is_named(folder):
    (folder / "card.yaml").write_text(CARD + "reader: shard\n")
    with pytest.raises(ValueError, match=r"card\.yaml: reader=shard .*did you mean shards"):
        data.info(config(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("files: {train: [], test: [test]}", "files.train"),
        ("files: {train: [../x], test: [test]}", "files.train"),
        ("size: [8, 8]", "size is not a key.*: name, reader, samples, files, news"),
    ],
)
def test_a_mistake_in_a_card_of_texts_is_one_line(folder, text, message):
    (folder / "card.yaml").write_text(f"name: letters\nreader: text\n{text}\n")
    with pytest.raises(ValueError, match=message):
        card.read(folder / "card.yaml")


def test_attributes_of_ones_own_are_chosen_as_those_of_celeba(folder):
    text = CARD.replace("[tit, owl, kite]", "[not-wild, wild]") + (
        "reader: attributes\nattributes: [wild, big, red]\ntarget: json:wild\n"
        "subgroup: json:big\nsubgroup_names: [not-big, big]\nsamples: {train: 5, test: 2}\n"
    )
    (folder / "card.yaml").write_text(text)
    assert data.info(config(folder)).subgroups[0] == "not-big-not-wild"
    assert data.info(config(folder, target="red")).classes == ("not-red", "red")
    with pytest.raises(ValueError, match=r"data\.target=wide is not known, did you mean wild"):
        data.info(config(folder, target="wide"))
    (folder / "card.yaml").write_text(text.replace("json:wild", "json:wide"))
    with pytest.raises(ValueError, match=r"target=json:wide is none of its attributes"):
        data.info(config(folder))


def test_digits_in_another_size_and_number_are_a_card(tmp_path):
    text = (card.path_of("digits_distorted", None)).read_text()
    text = text.replace("12, 12", "10, 10").replace("train: 2874", "train: 4311")
    (tmp_path / "mine.yaml").write_text(text.replace("train: 2,", "train: 3,"))
    mine = DataConfig(name=str(tmp_path / "mine.yaml"), validation=0.0)
    assert data.load(mine).train.images.shape == (4311, 1, 10, 10)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match="does not fit: the digits are 2874 and 2880 of 1x10x10"):
        data.load(mine)
