"""Data sets out of the layouts in which they are downloaded."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sms_dist import data
from sms_dist.config import DataConfig
from sms_dist.data.card import OWN, names
from sms_dist.data.images import ImageFiles
from sms_dist.data.prepare import LAYOUTS, check, prepare, write_missing
from sms_dist.data.shards import read_shard
from sms_dist.data.sheet import sheet

RANDOM = np.random.default_rng(0)
ATTRIBUTES = data.image_source(DataConfig(name="celeba"), "name").card.attributes
LABEL_IDS = data.image_source(DataConfig(name="cityscapes"), "name").card.download.label_ids


def silent(line):
    pass


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def photo(path, size=(12, 10)):
    return save(path, RANDOM.integers(0, 256, (*size, 3), dtype=np.uint8))


def mask(path, values, size=(12, 10)):
    return save(path, RANDOM.choice(np.array(values, np.uint8), size))


def stored(folder, split):
    return [
        sample for path in sorted(folder.glob(f"*-{split}-*.tar")) for sample in read_shard(path)
    ]


def config(name, folder, **changes):
    return DataConfig(name=name, path=str(folder), **changes)


# CelebA


@pytest.fixture
def faces(tmp_path):
    source = tmp_path / "celeba"
    attributes = RANDOM.choice([-1, 1], (9, 40))
    names = [f"{i:06d}.jpg" for i in range(1, 10)]
    for name in names:
        photo(source / "img_align_celeba" / name, (218, 178))
    rows = [
        f"{name}  {'  '.join(map(str, row))}" for name, row in zip(names, attributes, strict=True)
    ]
    (source / "list_attr_celeba.txt").write_text("\n".join(["9", " ".join(ATTRIBUTES), *rows, ""]))
    parts = [0, 0, 0, 1, 0, 2, 2, 0, 1]
    lines = [f"{name} {part}" for name, part in zip(names, parts, strict=True)]
    (source / "list_eval_partition.txt").write_text("\n".join(lines))
    return source, attributes > 0


def test_celeba_keeps_all_attributes_and_the_files_as_they_are(faces, tmp_path):
    source, attributes = faces
    prepare("celeba", source, tmp_path / "shards", 4, silent)
    samples = dict(stored(tmp_path / "shards", "train"))
    assert sorted(samples) == ["000001", "000002", "000003", "000004", "000005", "000008", "000009"]
    assert [key for key, _ in stored(tmp_path / "shards", "test")] == ["000006", "000007"]
    for key, fields in samples.items():
        assert fields["jpg"] == (source / "img_align_celeba" / f"{key}.jpg").read_bytes()
        assert list(json.loads(fields["json"]).values()) == attributes[int(key) - 1].tolist()
    assert check(tmp_path / "shards").problems == []


def test_celeba_is_read_for_any_attribute_with_four_subgroups(faces, tmp_path):
    source, attributes = faces
    prepare("celeba", source, tmp_path / "shards", 4, silent)
    for target, subgroup in ((None, None), ("Smiling", "Young")):
        chosen = config("celeba", tmp_path / "shards", target=target, subgroup=subgroup)
        found = data.load(chosen).test
        column, other = (ATTRIBUTES.index(a) for a in (target or "Blond_Hair", subgroup or "Male"))
        classes = attributes[5:7, column]
        assert found.targets.tolist() == classes.tolist()
        assert found.subgroups.tolist() == (attributes[5:7, other] * 2 + classes).tolist()
        assert found.images.shape == (2, 3, 64, 64)
    assert data.info(chosen).classes == ("not-Smiling", "Smiling")
    assert data.info(config("celeba", tmp_path / "shards")).subgroups == (
        "not-Male-not-Blond_Hair", "not-Male-Blond_Hair", "Male-not-Blond_Hair", "Male-Blond_Hair",
    )  # fmt: skip


def test_celeba_of_kaggle_gives_the_same_shards(faces, tmp_path):
    source, _ = faces
    prepare("celeba", source, tmp_path / "official", 4, silent)
    attributes = source / "list_attr_celeba.txt"
    _, header, *rows = attributes.read_text().splitlines()
    lines = [f"image_id {header}", *rows]
    csv = "\n".join(",".join(line.split()) for line in lines)
    (source / "list_attr_celeba.csv").write_text(csv)
    parts = source / "list_eval_partition.txt"
    csv = "image_id,partition\n" + parts.read_text().replace(" ", ",")
    (source / "list_eval_partition.csv").write_text(csv)
    attributes.unlink()
    parts.unlink()
    prepare("celeba", source, tmp_path / "kaggle", 4, silent)
    for path in (tmp_path / "official").iterdir():
        assert path.read_bytes() == (tmp_path / "kaggle" / path.name).read_bytes()


def test_celeba_refuses_unknown_attributes_and_lists_that_do_not_fit(faces, tmp_path):
    source, _ = faces
    with pytest.raises(ValueError, match=r"data\.target=Blonde.* did you mean Blond_Hair"):
        data.info(DataConfig(name="celeba", target="Blonde"))
    with pytest.raises(ValueError, match=r"data\.subgroup=Male is data\.target as well"):
        data.info(DataConfig(name="celeba", target="Male"))
    parts = source / "list_eval_partition.txt"
    parts.write_text("\n".join(parts.read_text().splitlines()[:-1]))
    with pytest.raises(ValueError, match="names 9 images, list_eval_partition 8"):
        prepare("celeba", source, tmp_path / "x", 4, silent)
    parts.unlink()
    with pytest.raises(ValueError, match="has no list_eval_partition"):
        prepare("celeba", source, tmp_path / "x", 4, silent)


# ImageNet

WNIDS = [f"n{i:08d}" for i in range(1000)]


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A training image for each class; three in val/, of the classes 7, 0, 999."""
    source = tmp_path_factory.mktemp("imagenet")
    image = photo(source / "image.jpg").read_bytes()
    for wnid in WNIDS:
        (source / "train" / wnid).mkdir(parents=True)
        (source / "train" / wnid / f"{wnid}_1.JPEG").write_bytes(image)
    for place in (1, 2, 3):
        (source / "val").mkdir(exist_ok=True)
        (source / "val" / f"ILSVRC2012_val_{place:08d}.JPEG").write_bytes(image)
    (source / "image.jpg").unlink()
    return source


def kit(source):
    """The development kit's numbers run against the order of the wnids."""
    folder = source / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    kind = [("ILSVRC2012_ID", int), ("WNID", object)]
    synsets = np.array([(1000 - i, wnid) for i, wnid in enumerate(WNIDS)], dtype=kind)
    savemat(folder / "meta.mat", {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("993\n1000\n1\n")


LABELS = {
    "LOC_val_solution.csv": "ImageId,PredictionString\n"
    + "".join(
        f"ILSVRC2012_val_{i:08d},{WNIDS[c]} 1 2 3 4 \n" for i, c in ((1, 7), (2, 0), (3, 999))
    ),
    "val.txt": "ILSVRC2012_val_00000001.JPEG 7\nILSVRC2012_val_00000002.JPEG 0\n"
    "ILSVRC2012_val_00000003.JPEG 999\n",
    "kit": "",
}


@pytest.mark.parametrize("form", LABELS)
def test_imagenet_finds_the_classes_of_its_validation_images(imagenet, tmp_path, form):
    source = tmp_path / "download"
    source.mkdir()
    for folder in ("train", "val"):
        (source / folder).symlink_to(imagenet / folder)
    if form == "kit":
        kit(source)
    else:
        (source / form).write_text(LABELS[form])
    prepare("imagenet", source, tmp_path / "shards", 600, silent)
    assert [fields["cls"] for _, fields in stored(tmp_path / "shards", "test")] == [
        b"7",
        b"0",
        b"999",
    ]
    train = stored(tmp_path / "shards", "train")
    image = (imagenet / "train" / WNIDS[0] / f"{WNIDS[0]}_1.JPEG").read_bytes()
    assert all(fields["jpg"] == image for _, fields in train)
    labels = [int(fields["cls"]) for _, fields in train]
    assert sorted(labels) == list(range(1000))
    assert np.abs(np.corrcoef(labels, np.arange(1000))[0, 1]) < 0.1  # shuffled
    assert all(key == f"{WNIDS[label]}_1" for label, (key, _) in zip(labels, train, strict=True))
    facts = data.info(config("imagenet", tmp_path / "shards"))
    assert (facts.num_train, facts.num_test, facts.input_shape) == (1000, 3, (3, 224, 224))
    small = config("imagenet", tmp_path / "shards", size=(8, 8), train_samples=20)
    assert data.load(small).train.images.shape == (18, 3, 8, 8)


def test_imagenet_takes_names_from_the_synsets_and_tells_two_cranes_apart(imagenet, tmp_path):
    source = tmp_path / "download"
    source.mkdir()
    (source / "train").symlink_to(imagenet / "train")
    for wnid in WNIDS:
        (source / "val" / wnid).mkdir(parents=True)
        (source / "val" / wnid / "a.JPEG").symlink_to(imagenet / "train" / wnid / f"{wnid}_1.JPEG")
    words = {wnid: "crane, bird" if i in (5, 9) else f"thing{i}" for i, wnid in enumerate(WNIDS)}
    lines = [f"{wnid} {word}" for wnid, word in words.items()]
    (source / "LOC_synset_mapping.txt").write_text("\n".join(lines))
    prepare("imagenet", source, tmp_path / "shards", 600, silent)
    classes = data.info(config("imagenet", tmp_path / "shards")).classes
    assert classes[4:6] == ("thing4", "crane (n00000005)")
    assert classes[9] == "crane (n00000009)"


def test_imagenet_refuses_other_folders_and_images_without_a_class(imagenet, tmp_path):
    source = tmp_path / "download"
    photo(source / "train" / "n1" / "a.jpg")
    with pytest.raises(ValueError, match="has 1 folders of classes, not 1000"):
        prepare("imagenet", source, tmp_path / "x", 600, silent)
    with pytest.raises(ValueError, match=r"no folders of classes, and .* none of LOC_val"):
        prepare("imagenet", imagenet, tmp_path / "x", 600, silent)
    other = tmp_path / "other"
    other.mkdir()
    for folder in ("train", "val"):
        (other / folder).symlink_to(imagenet / folder)
    (other / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG 7\n")
    with pytest.raises(ValueError, match="classes of 2 images are not known"):
        prepare("imagenet", other, tmp_path / "x", 600, silent)


# Masks


def test_cityscapes_has_nineteen_classes_and_void(tmp_path):
    source = tmp_path / "download"
    for part, city in (("train", "aachen"), ("train", "bochum"), ("val", "munster")):
        scene = f"{city}_000000_000019"
        photo(source / "leftImg8bit" / part / city / f"{scene}_leftImg8bit.png")
        mask(source / "gtFine" / part / city / f"{scene}_gtFine_labelIds.png", range(34))
    prepare("cityscapes", source, tmp_path / "shards", None, silent)
    ((key, fields),) = stored(tmp_path / "shards", "test")
    assert key == "munster_000000_000019"
    folder = source / "gtFine" / "val" / "munster"
    ids = np.asarray(Image.open(folder / f"{key}_gtFine_labelIds.png"))
    found = np.asarray(Image.open(io.BytesIO(fields["seg.png"])))
    for label, number in enumerate(LABEL_IDS):
        assert np.array_equal(found == label, ids == number)
    assert np.array_equal(found == 255, ~np.isin(ids, LABEL_IDS))
    read = data.load(config("cityscapes", tmp_path / "shards", size=(6, 8), validation=0.0))
    assert read.train.images.shape == (2, 3, 6, 8)
    (next((source / "gtFine" / "train").rglob("*.png"))).unlink()
    with pytest.raises(ValueError, match=r"labelIds\.png: there is no such file"):
        prepare("cityscapes", source, tmp_path / "again", None, silent)


def camvid_like(source, form, values=range(12)):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        names = [f"0001TP_{part}.{i}" for i in range(count)]
        for name in names:
            if form == "annot":
                photo(source / part / f"{name}.png")
                mask(source / f"{part}annot" / f"{name}.png", values)
            else:
                below = part if form == "folders" else "."
                photo(source / "images" / below / f"{name}.jpg")
                mask(source / "labels" / below / f"{name}.png", values)
        if form == "lists":
            (source / f"{part}.txt").write_text("\n".join(f"images/{name}.jpg" for name in names))


@pytest.mark.parametrize("form", ["annot", "folders", "lists"])
def test_camvid_is_found_in_each_of_its_forms(tmp_path, form):
    camvid_like(tmp_path / "download", form)
    prepare("camvid", tmp_path / "download", tmp_path / "shards", 4, silent)
    train, test = (stored(tmp_path / "shards", split) for split in ("train", "test"))
    assert sorted(key for key, _ in train) == [
        *(f"0001TP_train_{i}" for i in range(4)), *(f"0001TP_val_{i}" for i in range(2))
    ]  # fmt: skip
    assert [key for key, _ in test] == [f"0001TP_test_{i}" for i in range(3)]
    found = check(tmp_path / "shards")
    assert found.problems == []
    assert found.histogram["train"].sum() == 6 * 120


def test_camvid_refuses_masks_of_other_classes_and_folders_without_any(tmp_path):
    camvid_like(tmp_path / "download", "annot", values=[0, 12])
    with pytest.raises(ValueError, match=r"mask with the value 12, not one of 0 to 10 or 11"):
        prepare("camvid", tmp_path / "download", tmp_path / "shards", 4, silent)
    assert not (tmp_path / "shards").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no train/ beside trainannot/"):
        prepare("camvid", tmp_path / "empty", tmp_path / "shards", 4, silent)


def test_shards_without_an_index_become_shards_with_one(tmp_path):
    """Training and validation shards together, as the card says; nothing in them changes."""
    camvid_like(tmp_path / "download", "annot")
    prepare("camvid", tmp_path / "download", tmp_path / "first", 4, silent)
    source = tmp_path / "source"
    source.mkdir()
    for number, part in enumerate(("train", "val")):
        shard = tmp_path / "first" / f"camvid-train-00000{number}.tar"
        shard.rename(source / f"camvid-{part}-000000.tar")
    (tmp_path / "first" / "camvid-test-000000.tar").rename(source / "camvid-test-000000.tar")
    prepare("camvid", source, tmp_path / "shards", 100, silent)
    parts = stored(source, "train") + stored(source, "val")
    assert stored(tmp_path / "shards", "train") == parts
    assert data.info(config("camvid", tmp_path / "shards")).num_train == 6
    write_missing(source, "camvid", silent)
    assert data.info(config("camvid", source)).num_train == 6
    assert check(source).problems == []
    with pytest.raises(ValueError, match="is there already"):
        write_missing(source, "camvid", silent)


# Images of one's own


def test_a_folder_for_each_class_becomes_shards_with_a_card(tmp_path):
    for split, count in (("train", 5), ("test", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                photo(tmp_path / "pets" / split / name / f"{i}.png")
    prepare("card", tmp_path / "pets", tmp_path / "my pets", 4, silent)
    read = data.load(config("card", tmp_path / "my pets", validation=0.0))
    assert read.info.name == "my_pets"
    assert read.info.classes == ("cat", "dog")
    assert read.train.images.shape == (10, 3, 12, 10)
    assert sorted(read.train.targets.tolist()) == [0] * 5 + [1] * 5
    pixels = read.train.images.double() / 255
    assert read.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert read.std == pytest.approx(pixels.transpose(0, 1).flatten(1).std(1).tolist(), abs=1e-2)
    assert check(tmp_path / "my pets").problems == []
    prepare("card", tmp_path / "my pets", tmp_path / "again", 3, silent)
    again = data.load(config("card", tmp_path / "again", validation=0.0))
    assert np.array_equal(again.train.images, read.train.images)


def test_without_a_division_every_tenth_image_is_for_testing(tmp_path):
    for name in ("cat", "dog"):
        for i in range(10):
            photo(tmp_path / "pets" / name / f"{i}.jpg", (10 + i, 20))
    prepare("card", tmp_path / "pets", tmp_path / "shards", 4, silent)
    facts = data.info(config("card", tmp_path / "shards"))
    assert (facts.num_train, facts.num_test) == (18, 2)
    assert facts.input_shape == (3, 224, 224)  # of images of different sizes
    assert "augment: random_resized_crop" in (tmp_path / "shards" / "card.yaml").read_text()


def test_masks_of_ones_own_become_shards_with_a_card(tmp_path):
    camvid_like(tmp_path / "download", "folders", values=[0, 1, 2, 255])
    prepare("card", tmp_path / "download", tmp_path / "streets", 4, silent)
    facts = data.info(config("card", tmp_path / "streets"))
    assert (facts.task, facts.num_classes, facts.void) == ("segmentation", 3, 255)
    assert check(tmp_path / "streets").problems == []
    camvid_like(tmp_path / "empty", "folders", values=[7])
    with pytest.raises(ValueError, match=r"all pixels .* have the value 7; a card needs"):
        prepare("card", tmp_path / "empty", tmp_path / "x", 4, silent)


@pytest.mark.parametrize(("low", "high"), [(False, True), (0, 255), (0, 1), (3, 200)])
def test_masks_of_two_values_are_two_classes(tmp_path, low, high):
    source, lines = tmp_path / "source", []
    camvid_like(source, "folders", values=[0, 1])
    masks = {path.stem.replace(".", "_"): path for path in source.glob("labels/*/*.png")}
    wanted = {key: np.asarray(Image.open(path)) for key, path in masks.items()}
    for key, path in masks.items():
        save(path, np.where(wanted[key] > 0, np.array(high), np.array(low)).astype(
            bool if high is True else np.uint8))  # fmt: skip
    prepare("card", source, tmp_path / "shards", 4, lines.append)
    facts = data.info(config("card", tmp_path / "shards"))
    assert (facts.classes, facts.void) == (("0", "1"), None)
    for split in ("train", "test"):
        for key, fields in stored(tmp_path / "shards", split):
            found = np.asarray(Image.open(io.BytesIO(fields["seg.png"])))
            assert np.array_equal(found, wanted[key])
    assert lines[0].startswith(f"the values {'0 to 1' if high == 1 else f'{low}, {high}'} of the")
    assert check(tmp_path / "shards").problems == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 1, 255], "the values 0 to 1, 255 of the masks are 2 classes, 255 is no class (void)"),
        ([0, 1, 2, 5], "the values 0 to 2, 5 of the masks are 6 classes"),
        ([0, 85, 170, 255], "have the values 0, 85, 170, 255; write them as 0, 1, 2 and so on"),
    ],
)
def test_what_the_values_of_masks_mean_is_said_or_asked(tmp_path, values, said):
    lines = []
    camvid_like(tmp_path / "source", "lists", values)
    try:
        prepare("card", tmp_path / "source", tmp_path / "shards", 4, lines.append)
    except ValueError as error:
        lines.append(str(error))
    assert said in lines[0]


def test_palettes_with_other_colours_and_masks_of_colours_are_refused(tmp_path):
    camvid_like(tmp_path / "source", "folders", values=[0, 1])
    for number, path in enumerate(sorted(tmp_path.glob("source/labels/*/*.png"))):
        picture = Image.open(path).convert("P")
        picture.putpalette([0, 0, 0, 255, 0, number // 5 * 255])
        picture.save(path)
    with pytest.raises(ValueError, match="different colours for the value 1; write masks"):
        prepare("card", tmp_path / "source", tmp_path / "x", 4, silent)
    for path in tmp_path.glob("source/labels/*/*.png"):
        Image.open(path).convert("RGB").save(path)
    with pytest.raises(ValueError, match=r"mask of mode RGB; write the number of each pixel's"):
        prepare("card", tmp_path / "source", tmp_path / "x", 4, silent)


def test_folders_that_are_no_classes_and_files_that_are_no_images_are_named(tmp_path):
    pets = tmp_path / "pets"
    photo(pets / "cat" / "a.jpg")
    with pytest.raises(ValueError, match="at least two"):
        prepare("card", pets, tmp_path / "x", None, silent)
    (pets / "dog").mkdir()
    with pytest.raises(ValueError, match="dog holds no images"):
        prepare("card", pets, tmp_path / "x", None, silent)
    (pets / "dog" / "b.jpg").write_text("not an image")
    with pytest.raises(ValueError, match=r"b\.jpg is no JPEG or PNG"):
        prepare("card", pets, tmp_path / "x", None, silent)
    assert not (tmp_path / "x").exists()
    with pytest.raises(ValueError, match="is no folder"):
        prepare("card", tmp_path / "nowhere", tmp_path / "x", None, silent)


HIDDEN = (".ipynb_checkpoints/{}", "._{}", "__MACOSX/{}", "@eaDir/{}", ".DS_Store", "Thumbs.db")


@pytest.mark.parametrize("below", ["", "cat/"])
@pytest.mark.parametrize("division", ["", "train/"])
def test_hidden_files_and_folders_are_left_out_of_classes(tmp_path, below, division):
    pets = tmp_path / "pets"
    for name in ("cat", "dog"):
        for i in range(10):
            photo(pets / division / name / f"{i}.png")
            photo(pets / "val" / name / f"{i}.png") if division else None
    for each in HIDDEN:
        path = pets / division / below / each.format("a.png")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((pets / division / "dog" / "0.png").read_bytes())
    prepare("card", pets, tmp_path / "shards", 4, silent)
    facts = data.info(config("card", tmp_path / "shards"))
    assert facts.classes == ("cat", "dog")
    assert facts.num_train + facts.num_test == (40 if division else 20)
    train = stored(tmp_path / "shards", "train")
    dogs = {path.read_bytes() for path in (pets / division / "dog").glob("[0-9].png")}
    assert all((fields["png"] in dogs) == (fields["cls"] == b"1") for _, fields in train)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["cat/a.tif", "cat/b.TIF", "dog/x.gif"], r"3 files: 2 \.tif \(cat/a\.tif, .*\), 1 \.gif"),
        (["cat/deeper/a.png"], r"1 files: 1 \.png \(cat/deeper/a\.png\)"),
        (["README", "list.txt"], r"2 files: 1 without an extension \(README\), 1 \.txt"),
    ],
)
def test_files_that_are_not_taken_are_counted_and_named(tmp_path, files, message):
    pets, lines = tmp_path / "pets", []
    for name in ("cat", "dog"):
        for i in range(10):
            photo(pets / name / f"{i}.PNG")
    for file in files:
        (pets / file).parent.mkdir(exist_ok=True)
        (pets / file).write_bytes((pets / "cat" / "0.PNG").read_bytes())
    (pets / "cat" / "circle").symlink_to(pets)
    with pytest.raises(ValueError, match=f"{message}.*--skip-others"):
        prepare("card", pets, tmp_path / "shards", 4, silent)
    assert not (tmp_path / "shards").exists()
    prepare("card", pets, tmp_path / "shards", 4, lines.append, skip_others=True)
    assert re.search(f"left out {message}", lines[0])
    assert data.info(config("card", tmp_path / "shards")).num_train == 18


@pytest.mark.parametrize("form", ["annot", "folders", "lists"])
@pytest.mark.parametrize("name", ["card", "camvid"])
def test_images_without_a_mask_and_masks_without_an_image_are_named(tmp_path, form, name):
    source = tmp_path / "source"
    camvid_like(source, form, range(12))
    masks = sorted(source.rglob("0001TP_train.*.png"))
    lost = next(p for p in masks if "annot" in str(p) or "labels" in str(p))
    mask(lost.with_stem("alone"), range(12))
    lost.unlink()
    with pytest.raises(ValueError, match=r"2 files: .*--skip-others"):
        prepare(name, source, tmp_path / "shards", 4, silent)
    prepare(name, source, tmp_path / "shards", 4, silent, skip_others=True)
    assert data.info(config(name, tmp_path / "shards")).num_train == 5


def test_a_list_that_names_what_is_not_there_and_images_of_one_name_are_refused(tmp_path):
    source = tmp_path / "source"
    camvid_like(source, "lists", range(12))
    listed = (source / "train.txt").read_text()
    (source / "train.txt").write_text(f"{listed}\nimages/gone.1.jpg")
    with pytest.raises(ValueError, match=r"train\.txt names gone\.1, which is not in"):
        prepare("card", source, tmp_path / "shards", 4, silent)
    (source / "train.txt").write_text(listed)
    photo(source / "images" / "0001TP_train.0.png")
    with pytest.raises(ValueError, match=r"several images called 0001TP_train\.0"):
        prepare("card", source, tmp_path / "shards", 4, silent)


def test_scenes_of_one_name_in_two_parts_stay_two_samples(tmp_path):
    for part, name in (("train", "0"), ("val", "0"), ("val", "1"), ("test", "0")):
        photo(tmp_path / "source" / "images" / part / f"{name}.png")
        mask(tmp_path / "source" / "labels" / part / f"{name}.png", [0, 1])
    prepare("card", tmp_path / "source", tmp_path / "shards", 4, silent)
    keys = [key for key, _ in stored(tmp_path / "shards", "train")]
    assert len(set(keys)) == 3
    assert check(tmp_path / "shards").problems == []


def test_parts_of_a_set_that_are_no_classes_and_shards_of_no_split_are_named(tmp_path):
    for part in ("Train", "Test"):
        photo(tmp_path / "pets" / part / "cat" / "0.png")
    with pytest.raises(ValueError, match=r"Test is a part of the set by its name, not a class"):
        prepare("card", tmp_path / "pets", tmp_path / "x", 4, silent)
    camvid_like(tmp_path / "source", "annot")
    prepare("camvid", tmp_path / "source", tmp_path / "shards", 4, silent)
    (tmp_path / "shards" / "index.json").unlink()
    shard = tmp_path / "shards" / "camvid-train-000001.tar"
    shard.with_name("._camvid-train-0.tar").write_bytes(b"Mac OS X")
    shard = shard.rename(shard.with_name("more-000001.tar"))
    with pytest.raises(ValueError, match=r"1 files: 1 \.tar \(more-000001\.tar\)"):
        prepare("camvid", tmp_path / "shards", tmp_path / "x", 4, silent)
    with pytest.raises(ValueError, match=r"more-000001\.tar is a shard of neither train nor test"):
        write_missing(tmp_path / "shards", "camvid", silent)
    shard.rename(shard.with_name("latest-train.tar"))
    with pytest.raises(ValueError, match=r"latest-train\.tar is a shard of train and of test"):
        prepare("camvid", tmp_path / "shards", tmp_path / "x", 4, silent)


def test_grey_images_of_16_bits_are_scaled_and_what_is_odd_is_said(tmp_path):
    values = {}
    for kind, top in (("good", 1 << 16), ("dark", 1 << 12), ("flat", 1)):
        for name in ("cat", "dog"):
            for i in range(10):
                pixels = RANDOM.integers(0, top, (12, 10)).astype(np.uint16)
                path = save(tmp_path / kind / name / f"{i}.png", pixels)
                values[path.read_bytes()] = pixels >> 8
        lines = []
        prepare("card", tmp_path / kind, tmp_path / f"{kind} shards", 4, lines.append)
        folder = tmp_path / f"{kind} shards"
        found, read = check(folder), data.load(config("card", folder, validation=0.0))
        notes = [line for line in lines if ".tar" not in line]
        said = {"good": [], "dark": ["20 images have 16"], "flat": ["channel 1 of 1", "20 images"]}
        assert [wanted in note for wanted, note in zip(said[kind], found.notes, strict=False)] == [
            True
        ] * len(said[kind])
        assert len(notes) == len(said[kind])
        for split, images in (("train", read.train.images), ("test", read.test.images)):
            pictures = [values[fields["png"]] for _, fields in stored(folder, split)]
            assert np.array_equal(images[:, 0], np.stack(pictures))
    assert any("std of the card is 0.001" in note for note in found.notes)


def test_alpha_empty_classes_and_orientation_are_said_and_seen(tmp_path):
    for name in ("cat", "dog"):
        for i in range(10):
            exif = Image.Exif()
            exif[0x0112] = 6
            path = tmp_path / "pets" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = RANDOM.integers(0, 256, (10, 12, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(path, exif=exif)
    prepare("card", tmp_path / "pets", tmp_path / "shards", 4, silent)
    facts = data.info(config("card", tmp_path / "shards"))
    assert facts.input_shape == (3, 12, 10)
    text = (tmp_path / "shards" / "card.yaml").read_text()
    assert "fit: exact" in text
    (tmp_path / "shards" / "card.yaml").write_text(text.replace("[cat, dog]", "[cat, dog, cow]"))
    index = json.loads((tmp_path / "shards" / "index.json").read_text())
    index["classes"].append("cow")
    (tmp_path / "shards" / "index.json").write_text(json.dumps(index))
    assert check(tmp_path / "shards").notes == [
        "20 images have an alpha channel, which is left out",
        "train has nothing of the classes cow",
    ]


def test_every_data_set_of_images_can_be_prepared():
    sources = [data.source(DataConfig(name=name)) for name in names() if name != OWN]
    images = [source for source in sources if isinstance(source, ImageFiles)]
    assert {source.card.download.layout for source in images} == set(LAYOUTS)


# What is checked and shown


def test_check_names_every_bad_sample(tmp_path):
    for name in ("cat", "dog"):
        for i in range(10):
            photo(tmp_path / "pets" / name / f"{i}.png")
    folder = tmp_path / "shards"
    prepare("card", tmp_path / "pets", folder, 100, silent)
    text = (folder / "card.yaml").read_text()
    (folder / "card.yaml").write_text(re.sub("size: .*", "size: [9, 9]", text))
    found = check(folder)
    assert len(found.problems) == 20
    assert all("12x10" in problem or "10x12" in problem for problem in found.problems)
    with pytest.raises(ValueError, match="say with --name"):
        check(tmp_path / "pets")
    with pytest.raises(ValueError, match=r"--name=digits is no set of images.*: camvid"):
        check(folder, "digits")


def test_the_sheet_shows_images_and_masks_side_by_side(tmp_path):
    camvid_like(tmp_path / "download", "annot", values=[0, 3, 11])
    prepare("camvid", tmp_path / "download", tmp_path / "shards", 4, silent)
    found = check(tmp_path / "shards", num_pictures=4)
    assert len(found.pictures) == 4
    card = found.card.model_copy(update={"size": (12, 10)})
    drawn = np.asarray(sheet(found.pictures, card, found.info))
    sample = found.pictures[0][1]
    enlarged = sample.image.transpose(1, 2, 0).repeat(6, 0).repeat(6, 1)
    assert np.array_equal(drawn[6 : 6 + 72, 6 : 6 + 60], enlarged)
    colours = drawn[6 : 6 + 72 : 6, 66 : 66 + 60 : 6].reshape(-1, 3)
    shown = {tuple(colour) for colour in colours}
    assert len(shown) == len(np.unique(sample.target)) == 3
    assert (0, 0, 0) in shown  # void
