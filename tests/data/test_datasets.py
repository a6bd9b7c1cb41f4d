"""Data sets by name: sizes, splits, and what planning costs."""

import ast
import dataclasses
import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sms_dist import data
from sms_dist.base.vision import torchvision
from sms_dist.config import DataConfig
from sms_dist.data.card import OWN, SPLITS, names
from sms_dist.data.digits import _table
from sms_dist.data.prepare import prepare

REAL = os.environ.get("SMS_DATA")


def distorted(**changes):
    return DataConfig(name="digits_distorted", **changes)


@pytest.fixture(scope="module")
def loaded():
    return data.load(distorted())


@pytest.mark.parametrize("name", ["digits", "digits_distorted"])
def test_the_facts_agree_with_what_is_read(name):
    config = DataConfig(name=name, validation=0.0)
    facts, read = data.info(config), data.load(config)
    assert (len(read.train), len(read.test)) == (facts.num_train, facts.num_test)
    assert tuple(read.train.images.shape[1:]) == facts.input_shape
    pixels = read.train.images.double() / 255
    assert pixels.mean().item() == pytest.approx(read.mean[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(read.std[0], abs=1e-4)
    for split in (read.train, read.test):
        counts = split.targets.bincount(minlength=10).float() / len(split)
        assert counts.min() > 0.09


def test_no_test_digit_is_a_training_digit():
    read = data.load(DataConfig(name="digits", validation=0.0))
    together = torch.cat((read.train.images, read.test.images)).flatten(1)
    assert len(together) == 1797
    assert len(together.unique(dim=0)) == 1797


def test_the_digits_are_those_that_scikit_learn_reads():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    table = _table()
    assert (table[:, :-1] == images).all()
    assert (table[:, -1] == labels).all()


def test_the_distorted_digits_are_the_same_everywhere(loaded):
    digest = hashlib.sha256()
    whole = data.load(distorted(validation=0.0))
    for split in (whole.train, whole.test):
        digest.update(split.images.numpy().tobytes() + split.targets.numpy().tobytes())
    assert digest.hexdigest()[:16] == "c40ee75f8cde3bb4"


def test_the_validation_split_never_separates_the_copies_of_a_digit():
    whole = data.load(distorted(validation=0.0)).train
    origin = {image.numpy().tobytes(): i // 2 for i, image in enumerate(whole.images)}
    for fraction, count in ((0.1, None), (0.35, None), (0.1, 31)):
        read = data.load(distorted(validation=fraction, train_samples=count))
        sides = [
            {origin[image.numpy().tobytes()] for image in split.images}
            for split in (read.train, read.validation)
        ]
        assert sides[0].isdisjoint(sides[1])
        assert len(sides[0]) + len(sides[1]) == ((count or 2 * 1437) + 1) // 2


@given(st.integers(2, 2874), st.floats(0, 0.9))
def test_the_planned_sizes_are_whole_groups_and_add_up(count, fraction):
    config = distorted(train_samples=count, validation=fraction)
    facts = data.info(config)
    try:
        train, validation = data.split_sizes(facts, config)
    except ValueError:
        assert fraction * count > count - 2
        return
    assert train + validation == count
    assert validation % 2 == 0
    assert abs(validation - fraction * count) <= 2


def test_the_loaded_splits_have_the_planned_sizes(loaded):
    sizes = (len(loaded.train), len(loaded.validation))
    assert sizes == data.split_sizes(data.info(distorted()), distorted())
    assert sizes == (2586, 288)


def test_train_samples_takes_the_first_ones():
    some, whole = (data.load(distorted(train_samples=n, validation=0.0)) for n in (100, None))
    assert torch.equal(some.train.images, whole.train.images[:100])
    assert some.info.num_train == 100


def test_a_split_that_leaves_nothing_and_too_many_samples_are_refused():
    config = distorted(train_samples=2, validation=0.9)
    with pytest.raises(ValueError, match=r"data\.validation=0\.9 of 2"):
        data.load(config)
    with pytest.raises(ValueError, match=r"data\.train_samples=9999.*2874"):
        data.info(distorted(train_samples=9999))
    with pytest.raises(ValueError, match=r"data\.name=cifar is not known"):
        data.info(DataConfig(name="cifar"))


@pytest.mark.parametrize("change", [{"size": (8, 8)}, {"target": "Male"}, {"subgroup": "Male"}])
def test_keys_that_a_data_set_does_not_have_are_refused(change):
    (key,) = change
    with pytest.raises(ValueError, match=rf"data\.{key}="):
        data.info(DataConfig(name="digits", **change))
    if key != "size":
        with pytest.raises(ValueError, match=rf"data\.{key}=Male .*celeba"):
            data.info(DataConfig(name="cifar10", **change))


def test_planning_imports_no_torch():
    code = (
        f"names = {[name for name in names() if name != OWN]};"
        "import sys; from sms_dist import data; from sms_dist.config import DataConfig;"
        "[data.info(DataConfig(name=n)) for n in names];"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_the_training_loader_augments(loaded):
    def upside_down(images, targets, sample_ids, stream):
        return images.flip(2), targets

    from sms_dist.base.randomness import stream

    turned = dataclasses.replace(loaded, augment=upside_down)
    plain = dataclasses.replace(loaded, augment=None)
    addresses = (stream(0, "order"), stream(0, "augmentation"))
    for name in ("train", "validation", "test"):
        first, second = (
            next(getattr(d.loaders(32, torch.device("cpu")), name).epoch(*addresses))
            for d in (turned, plain)
        )
        assert torch.equal(first.inputs[0], second.inputs[0]) == (name != "train")


@pytest.mark.parametrize("has_parent", [True, False])
def test_a_torchvision_folder_is_read_after_its_checksums(tmp_path, monkeypatch, has_parent):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    make = torchvision().datasets.CIFAR10
    folder = tmp_path / make.base_folder
    folder.mkdir()
    contents = {
        "train_list": {"data": pixels[:3], "labels": [1, 2, 3]},
        "test_list": {"data": pixels[3:], "labels": [4]},
        "meta": {"label_names": list(data.described(DataConfig(name="cifar10")).classes)},
    }
    for place, content in contents.items():
        written = pickle.dumps(content)
        (folder / place).write_bytes(written)
        checksum = hashlib.md5(written).hexdigest()
        known = {"filename": place, "key": "label_names", "md5": checksum}
        monkeypatch.setattr(make, place, known if place == "meta" else [(place, checksum)])
    source = data.image_source(DataConfig(name="cifar10"), "name")
    path = tmp_path if has_parent else folder
    config = DataConfig(name="cifar10", path=str(path))
    train, test = (list(source.samples(source.card, config, split, 3)) for split in SPLITS)
    assert np.array_equal([sample.image.ravel() for sample in train], pixels[:3])
    assert [sample.target for sample in test] == [4]
    prepare("cifar10", path, tmp_path / "shards", progress=lambda line: None)
    stored = DataConfig(name="cifar10", path=str(tmp_path / "shards"), validation=0.0)
    assert np.array_equal(data.load(stored).train.images.reshape(3, -1), pixels[:3])
    (folder / "train_list").write_bytes(b"changed")
    with pytest.raises(ValueError, match="incomplete or damaged"):
        list(source.samples(source.card, config, "train", 3))


def imports(path):
    """Modules of data that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_module_of_data_imports_itself_by_way_of_others():
    root = Path(data.__file__).parent
    files = {
        ".".join(("sms_dist.data", *path.relative_to(root).with_suffix("").parts)): path
        for path in root.rglob("*.py")
        if path.name != "__init__.py"
    }
    below = {name: imports(path) & files.keys() - {name} for name, path in files.items()}
    while leaves := [name for name, others in below.items() if not others & below.keys()]:
        for name in leaves:
            del below[name]
    assert sorted(below) == []


@pytest.mark.skipif(not REAL, reason="SMS_DATA names no folder with real data sets")
def test_real_cifar10_shards_are_read():
    config = DataConfig(name="cifar10", path=f"{REAL}/cifar10", train_samples=6000)
    read = data.load(config)
    assert (len(read.train), len(read.validation), len(read.test)) == (5400, 600, 10_000)
    assert read.train.images.shape[1:] == (3, 32, 32)
    means = (read.train.images.double() / 255).mean(dim=(0, 2, 3)).tolist()
    assert means == pytest.approx(read.mean, abs=0.01)
    assert read.test.targets.bincount().min() > 900


@pytest.mark.skipif(not REAL, reason="SMS_DATA names no folder with real data sets")
def test_real_camvid_shards_are_read():
    config = DataConfig(name="camvid", path=f"{REAL}/camvid", size=(90, 120), validation=0.0)
    read = data.load(config)
    assert (len(read.train), len(read.test)) == (468, 233)
    assert read.train.images.shape[1:] == (3, 90, 120)
    assert read.train.targets.shape[1:] == (90, 120)
    pixels = read.train.images.double() / 255
    assert pixels.mean(dim=(0, 2, 3)).tolist() == pytest.approx(read.mean, abs=0.001)
    shares = read.train.targets.flatten().bincount() / read.train.targets.numel()
    assert len(shares) == 12  # eleven classes and void
    assert shares[3] == shares.max()  # road
    assert shares[11] == pytest.approx(0.035, abs=0.001)
