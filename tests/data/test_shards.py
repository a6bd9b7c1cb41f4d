"""Shards: written and read back unchanged, and every damage has its message."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from sms_dist import data
from sms_dist.config import DataConfig
from sms_dist.data import index
from sms_dist.data.prepare import check, prepare
from sms_dist.data.prepare.writer import labelled, write
from sms_dist.data.shards import read_shard

SHAPE = (3, 32, 32)
CIFAR10 = data.image_source(DataConfig(name="cifar10"), "name")
CLASSES = CIFAR10.card.class_names
PIXELS = np.random.default_rng(0).integers(0, 256, (12, *SHAPE), dtype=np.uint8)


def samples(first, last):
    return [(f"sample{i:03d}", PIXELS[i], i % 10) for i in range(first, last)]


def silent(line):
    pass


@pytest.fixture
def folder(tmp_path):
    """Nine training samples in shards of four, three test samples."""
    target = tmp_path / "set"
    splits = {"train": labelled(samples(0, 9)), "test": labelled(samples(9, 12))}
    write(target, "cifar10", CLASSES, splits, 4, silent)
    return target


def png(size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


def shard_of(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def samples_of(path, split):
    return CIFAR10.samples(CIFAR10.card, config(path.parent), split, 1)


def config(folder, **changes):
    return DataConfig(name="cifar10", path=str(folder), **changes)


def test_what_is_written_is_read_back_unchanged(folder):
    read = data.load(config(folder, validation=0.0))
    assert np.array_equal(read.train.images.numpy(), PIXELS[:9])
    assert np.array_equal(read.test.images.numpy(), PIXELS[9:])
    assert read.train.targets.tolist() == list(range(9))
    found = check(folder)
    assert found.problems == []
    assert found.counts == {"train": 9, "test": 3}
    assert found.histogram["train"].tolist() == [1] * 9 + [0, 0]


def test_the_index_gives_the_counts_without_reading_a_shard(folder):
    for shard in folder.glob("*.tar"):
        shard.unlink()
    assert data.info(config(folder)).num_train == 9
    assert data.info(config(folder, train_samples=5)).num_train == 5
    assert data.info(config(folder)).num_test == 3


def test_writing_again_gives_the_same_bytes(folder, tmp_path):
    prepare("cifar10", folder, tmp_path / "again", 4, silent)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()
    }


def test_a_failed_preparation_leaves_nothing_behind(folder, tmp_path):
    next(folder.glob("*test*")).write_bytes(b"no tar")
    with pytest.raises(ValueError, match=r"differs from what was written \(sha256\)"):
        prepare("cifar10", folder, tmp_path / "again", 4, silent)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_prepare_refuses_a_folder_that_is_not_empty(folder):
    with pytest.raises(ValueError, match="not an empty folder"):
        prepare("cifar10", folder, folder, 4, silent)


def test_prepare_refuses_embedded_and_unknown_sets(folder, tmp_path):
    with pytest.raises(ValueError, match="valid values: camvid, card, celeba, cifar10"):
        prepare("digits", folder, tmp_path / "again", 4, silent)


def test_only_the_shards_that_are_needed_are_opened(folder):
    (folder / "cifar10-train-000001.tar").write_bytes(b"no tar")
    read = data.load(config(folder, train_samples=4, validation=0.0))
    assert np.array_equal(read.train.images.numpy(), PIXELS[:4])


def test_folders_without_an_index_must_hold_the_whole_set(folder):
    (folder / index.FILE).unlink()
    assert data.info(config(folder)).num_train == 50_000
    with pytest.raises(ValueError, match="train has 9 samples instead of 50000"):
        data.load(config(folder))


def test_check_names_missing_and_changed_shards(folder):
    (folder / "cifar10-train-000000.tar").unlink()
    with (folder / "cifar10-train-000001.tar").open("ab") as shard:
        shard.write(b"x")
    missing, changed = check(folder).problems
    assert "000000.tar is missing" in missing
    assert "000001.tar differs" in changed


def test_check_counts_the_samples(folder):
    known = json.loads((folder / index.FILE).read_text())
    known["splits"]["test"][0]["samples"] = 4
    (folder / index.FILE).write_text(json.dumps(known))
    assert "has 3 samples, index.json says 4" in check(folder).problems[0]


@pytest.mark.parametrize("keep", [700, 512 * 9 + 100, 0])
def test_a_truncated_tar_is_one_clear_error(folder, keep):
    path = folder / "cifar10-train-000000.tar"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cifar10-train-000000\.tar.*sms-dist data prepare"):
        data.load(config(folder))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_gzip_is_one_clear_error(folder, tmp_path, share):
    whole = gzip.compress((folder / "cifar10-train-000000.tar").read_bytes())
    path = tmp_path / "x.tar.gz"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"x\.tar\.gz is damaged"):
        list(read_shard(path))


def test_a_gzip_cut_between_two_samples_is_an_error_not_a_shorter_shard(folder, tmp_path):
    whole = folder / "cifar10-train-000000.tar"
    with tarfile.open(whole) as tar:
        third = tar.getmembers()[4].offset  # two members a sample
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(whole.read_bytes()[:third])[:-8])
    with pytest.raises(ValueError, match=r"x\.tar\.gz is damaged"):
        list(read_shard(path))


def test_a_tar_cut_between_two_samples_is_an_error_even_without_an_index(folder):
    path = folder / "cifar10-train-000000.tar"
    with tarfile.open(path) as tar:
        third = tar.getmembers()[4].offset
    path.write_bytes(path.read_bytes()[:third])
    with pytest.raises(ValueError, match="its end is missing"):
        list(read_shard(path))


@pytest.mark.parametrize("name", ["../a.png", "/a.png"])
def test_a_member_that_points_out_of_its_shard_is_named_not_called_damage(tmp_path, name):
    path = tmp_path / "x-train.tar"
    shard_of(path, {"b.png": png(), name: png()})
    with pytest.raises(ValueError, match=f"x-train.tar: member '{name}'"):
        list(read_shard(path))


def test_a_link_in_a_shard_is_refused(tmp_path):
    path = tmp_path / "x-train.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(ValueError, match=r"'a\.png' is a link"):
        list(read_shard(path))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": png()}, r"sample a has no class \(\.cls\)"),
        ({"a.cls": b"1"}, "sample a has no image"),
        ({"a.png": png()[:60], "a.cls": b"1"}, "sample a has an image that cannot be decoded"),
        ({"a.png": b"GIF89a", "a.cls": b"1"}, "sample a has an image that cannot be decoded"),
        (
            {"a.png": png((16, 32)), "a.cls": b"1"},
            "an image of 16x32 pixels, not 32x32",
        ),
        ({"a.png": png(), "a.cls": b"10"}, "sample a has the class '10', not one of 0 to 9"),
        ({"a.png": png(), "a.cls": b"-1"}, "sample a has the class '-1'"),
        ({"a.png": png(), "a.cls": b"cat"}, "sample a has the class 'cat'"),
        ({"a.png": png(), "a.PNG": png()}, r"'a\.PNG' is in it twice"),
    ],
)
def test_a_bad_sample_is_one_error_that_names_file_and_sample(tmp_path, members, message):
    path = tmp_path / "bad-train-0.tar"
    shard_of(path, members)
    with pytest.raises(ValueError, match=message) as caught:
        list(samples_of(path, "train"))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_local_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a command that runs in a shell"):
        list(read_shard(tmp_path / "pipe:touch stolen"))
    assert not (tmp_path / "stolen").exists()


def test_a_file_that_is_called_like_a_command_is_no_shard(tmp_path):
    (tmp_path / "pipe:touch stolen-train.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no \*train\*"):
        data.load(config(tmp_path, remote=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../cifar10-train-000000.tar"}, "splits.train.0.file"),
        ({"file": "/etc/passwd"}, "splits.train.0.file"),
        ({"samples": "4"}, "splits.train.0.samples"),
        ({"samples": 5}, "has 4 samples, index.json says 5"),
        ({"file": "other.tar"}, "other.tar: there is no such file"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(folder, change, message):
    known = json.loads((folder / index.FILE).read_text())
    known["splits"]["train"][0] |= change
    (folder / index.FILE).write_text(json.dumps(known))
    with pytest.raises(ValueError, match=message):
        data.load(config(folder))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (CLASSES[:9], "has 10 classes, but .* holds 9"),
        ((CLASSES[1], CLASSES[0], *CLASSES[2:]), "class 0 of cifar10 is airplane.* automobile"),
    ],
)
def test_an_index_with_other_classes_is_refused(folder, classes, message):
    known = json.loads((folder / index.FILE).read_text()) | {"classes": classes}
    (folder / index.FILE).write_text(json.dumps(known))
    with pytest.raises(ValueError, match=message):
        data.info(config(folder))


def test_an_index_of_another_set_is_refused(folder):
    with pytest.raises(ValueError, match="says that the folder holds cifar10"):
        data.info(DataConfig(name="cifar100", path=str(folder)))


def test_a_missing_folder_a_missing_path_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        data.load(config(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"needs data\.path"):
        data.load(DataConfig(name="cifar10"))
    with pytest.raises(ValueError, match=r"holds no \*train\*\.tar"):
        data.load(config(tmp_path))
