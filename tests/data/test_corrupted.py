"""Corrupted test sets: published layouts read back, and every fault has its message."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sms_dist.data.corruptions import BENCHMARK, SEVERITIES, corrupted_sets
from sms_dist.data.corruptions.generated import corrupt
from sms_dist.data.dataset import DatasetInfo, Split

COUNT, NAMES = 6, ("fog", "snow")
INFO = DatasetInfo("cifar10", 10, COUNT, (3, 32, 32), ("a", "b", "c"))
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
TARGETS = np.array([0, 1, 2, 2, 1, 0])
CLEAN = Split(torch.from_numpy(IMAGES), torch.from_numpy(TARGETS)).read
# stored in another order than the test set at hand: only the counts of the classes must agree
LABELS = np.array([2, 2, 1, 1, 0, 0], dtype=np.uint8)


@pytest.fixture
def cifar(tmp_path):
    """CIFAR-C with two corruptions of six images."""
    for name in NAMES:
        shape = (len(SEVERITIES) * COUNT, 32, 32, 3)
        np.save(tmp_path / f"{name}.npy", GENERATOR.integers(0, 256, shape, dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.tile(LABELS, 5))
    return tmp_path


@pytest.fixture
def imagenet(tmp_path):
    """ImageNet-C with two corruptions, two images of each class, below a folder of their family."""
    for name in NAMES:
        for severity in SEVERITIES:
            for number in range(COUNT):
                folder = tmp_path / "weather" / name / str(severity) / f"n0{number // 2}"
                folder.mkdir(parents=True, exist_ok=True)
                colour = (40 * number, 50 * severity, 200 if name == "fog" else 10)
                image = Image.new("RGB", (32, 32), colour)
                image.save(folder / f"val_{number}.JPEG", quality=95)
    return tmp_path


def sets(source, names=NAMES, info=INFO):
    return corrupted_sets(str(source), info, CLEAN, 0, names)


def test_cifar_c_is_read_by_corruption_and_severity(cifar):
    all_sets = sets(cifar)
    assert [(s.corruption, s.severity) for s in all_sets] == [
        (n, s) for n in NAMES for s in SEVERITIES
    ]
    stored = np.load(cifar / "snow.npy")
    images, labels = all_sets[7].read(2, 5)  # snow, severity 3
    assert torch.equal(
        images, torch.from_numpy(stored[2 * COUNT + 2 : 2 * COUNT + 5]).movedim(3, 1)
    )
    assert labels.tolist() == [1, 1, 0]
    assert all(s.count == COUNT for s in all_sets)


def test_imagenet_c_is_read_class_by_class(imagenet):
    all_sets = sets(imagenet)
    images, labels = all_sets[3].read(1, 6)  # fog, severity 4
    assert images.shape == (5, 3, 32, 32)
    assert labels.tolist() == [0, 1, 1, 2, 2]
    for offset, number in enumerate(range(1, 6)):
        pixel = images[offset, :, 5, 5].int()
        assert (pixel - torch.tensor([40 * number, 200, 200])).abs().max() <= 4


def test_generated_sets_are_the_corrupted_test_set():
    all_sets = corrupted_sets("generated", INFO, CLEAN, 3)
    assert len(all_sets) == len(BENCHMARK) * len(SEVERITIES)
    fog = next(s for s in all_sets if (s.corruption, s.severity) == ("fog", 2))
    images, labels = fog.read(2, 4)
    wanted = corrupt("fog", 2, torch.from_numpy(IMAGES), torch.arange(COUNT), 3)
    assert torch.equal(images, wanted[2:4])
    assert labels.tolist() == TARGETS[2:4].tolist()


def refused(message, *arguments, **options):
    with pytest.raises(ValueError, match=message) as error:
        sets(*arguments, **options)
    assert "\n" not in str(error.value)


def test_faults_of_a_folder(tmp_path, cifar):
    way_out = "name one, or set data.corruptions=generated"
    refused(f"nowhere is no folder; {way_out}", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused(r"holds neither fog.npy and labels.npy \(CIFAR-C\) nor fog/1", tmp_path / "empty")
    refused("corruption=frog is not known, did you mean fog", "generated", ("frog",))
    refused("frost.npy is missing", cifar, (*NAMES, "frost"))


def test_faults_of_cifar_c(cifar):
    np.save(cifar / "fog.npy", np.zeros((4 * COUNT, 32, 32, 3), np.uint8))
    refused("fog.npy is uint8 24x32x32x3, not uint8 30x32x32x3", cifar)
    np.save(cifar / "fog.npy", np.zeros((5 * COUNT, 32, 32, 3), np.float32))
    refused("fog.npy is float32 30x32x32x3, not uint8", cifar)
    (cifar / "fog.npy").write_bytes((cifar / "snow.npy").read_bytes()[:5000])
    refused("fog.npy is no array that can be read", cifar)
    np.save(cifar / "fog.npy", np.array([{}]), allow_pickle=True)
    refused("fog.npy is no array that can be read", cifar)


def test_faults_of_the_labels(cifar):
    np.save(cifar / "labels.npy", np.tile(LABELS, 4))
    refused("labels.npy is uint8 24, not uint8 30", cifar)
    np.save(cifar / "labels.npy", np.concatenate([np.tile(LABELS, 4), LABELS[::-1]]))
    refused("labels.npy has other labels for some severities", cifar)
    np.save(cifar / "labels.npy", np.tile(LABELS[:1], 30))
    refused("disagree on how many samples each class has", cifar)
    (cifar / "labels.npy").unlink()
    refused("labels.npy is missing", cifar)


def test_faults_of_imagenet_c(imagenet):
    few = next((imagenet / "weather" / "fog" / "2" / "n00").iterdir())
    few.rename(few.with_suffix(".txt"))
    with pytest.raises(ValueError, match="fog/2 has 5 images, the test set has 6"):
        sets(imagenet)[1].read(0, 1)
    damaged = imagenet / "weather" / "snow" / "1" / "n00" / "val_0.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(
        ValueError, match=r"val_0\.JPEG is an image that cannot be decoded .* unpack it"
    ):
        sets(imagenet)[5].read(0, 1)
    Image.new("RGB", (30, 32)).save(damaged, "JPEG")
    with pytest.raises(ValueError, match=r"val_0\.JPEG is 30x32 pixels, the model takes 32x32"):
        sets(imagenet)[5].read(0, 1)
    (imagenet / "weather" / "snow" / "5").rename(imagenet / "weather" / "snow" / "6")
    refused("lacks snow/5; unpack it again", imagenet)
    refused("lacks frost/1, frost/2, frost/3 and 2 more", imagenet, ("fog", "frost"))
    other = DatasetInfo("x", 1, COUNT, (3, 32, 32), tuple(json.dumps(i) for i in range(4)))
    with pytest.raises(ValueError, match="has 3 classes, not 4"):
        sets(imagenet, ("fog",), other)[0].read(0, 1)
