"""The published corrupted test sets: CIFAR-10-C and CIFAR-100-C, and ImageNet-C."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sms_dist.data.corruptions import SEVERITIES, CorruptedSet
from sms_dist.data.dataset import DatasetInfo, Read
from sms_dist.data.decode import pixels
from sms_dist.data.index import is_hidden

LABELS = "labels.npy"
ENDINGS = (".jpeg", ".jpg", ".png")
AGAIN = "unpack it again"


def cifar_c_files(names: Sequence[str]) -> list[str]:
    """Return the names of the files that CIFAR-C consists of."""
    return [LABELS, *(f"{name}.npy" for name in names)]


def cifar_c(
    folder: Path, info: DatasetInfo, clean: Read, names: Sequence[str]
) -> list[CorruptedSet]:
    """Return the sets of <corruption>.npy: uint8, severity 1, then 2 ... 5, each N x H x W x C.

    The files are mapped, not read. Their order of samples may be another than that of `clean`, so
    labels are compared by how often each class occurs.
    """
    count = info.num_test
    labels = _labels(folder / LABELS, info, clean)
    channels, *size = info.input_shape
    shape = (len(SEVERITIES) * count, *size, channels)
    arrays = {name: _array(folder / f"{name}.npy", shape) for name in names}

    def read(name: str, severity: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        first = (severity - 1) * count
        images = arrays[name][first + start : first + stop].transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(images)), labels[start:stop]

    return [
        CorruptedSet(name, severity, count, partial(read, name, severity))
        for name in names
        for severity in SEVERITIES
    ]


def _labels(path: Path, info: DatasetInfo, clean: Read) -> Tensor:
    """Return the labels of one severity (int64); ValueError if another's or `clean`'s differ."""
    stored = _array(path, (len(SEVERITIES) * info.num_test,))
    blocks = torch.from_numpy(stored.astype(np.int64)).view(len(SEVERITIES), -1)
    if (blocks != blocks[0]).any():
        raise ValueError(f"{path} has other labels for some severities than for others; {AGAIN}")
    wanted = torch.bincount(clean(0, info.num_test)[1], minlength=256)
    if not torch.equal(torch.bincount(blocks[0], minlength=256), wanted):
        raise ValueError(
            f"{path} and the test set of data.name={info.name} disagree on how many samples each"
            " class has; name the folder that was made of this set"
        )
    return blocks[0]


def _array(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the mapped array of a file; ValueError unless its type and shape are right."""
    if not path.is_file():
        raise ValueError(f"{path} is missing; {AGAIN}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no array that can be read ({reason}); {AGAIN}") from None
    is_whole_number = array.dtype == np.uint8 or (array.ndim == 1 and array.dtype.kind in "ui")
    if array.shape != shape or not is_whole_number:
        stored, wanted = ("x".join(map(str, sides)) for sides in (array.shape, shape))
        raise ValueError(f"{path} is {array.dtype} {stored}, not uint8 {wanted}; {AGAIN}")
    assert isinstance(array, np.ndarray)
    return array


def imagenet_c_folder(folder: Path, name: str) -> Path:
    """Return the folder of a corruption: the tar files unpack to noise/gaussian_noise or without
    noise."""
    return next((path for path in sorted(folder.glob(f"*/{name}")) if path.is_dir()), folder / name)


def imagenet_c(folder: Path, info: DatasetInfo, names: Sequence[str]) -> list[CorruptedSet]:
    """Return the sets of <corruption>/<severity>/<class>/*.JPEG.

    Classes count in the order of their folders' names, samples by class and file name. The files of
    a set are listed and counted when it is first read.
    """
    paths = {
        (name, severity): imagenet_c_folder(folder, name) / str(severity)
        for name in names
        for severity in SEVERITIES
    }
    missing = [f"{name}/{severity}" for (name, severity), p in paths.items() if not p.is_dir()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"{folder} lacks {', '.join(missing[:3])}{more}; {AGAIN}")

    def read(path: Path, start: int, stop: int) -> tuple[Tensor, Tensor]:
        chosen = _files(path, info.num_classes, info.num_test)[start:stop]
        images = torch.empty(len(chosen), *info.input_shape, dtype=torch.uint8)
        for image, (file, _) in zip(images, chosen, strict=True):
            image.copy_(_image(file, info.input_shape))
        return images, torch.tensor([label for _, label in chosen], dtype=torch.int64)

    return [
        CorruptedSet(name, severity, info.num_test, partial(read, path))
        for (name, severity), path in paths.items()
    ]


@lru_cache(maxsize=1)  # sets are read one after the other, and a list takes tens of MB
def _files(path: Path, num_classes: int, count: int) -> list[tuple[Path, int]]:
    """Return the files of a severity with their classes, in test order."""
    classes = sorted(
        folder for folder in path.iterdir() if folder.is_dir() and not is_hidden(folder.name)
    )
    if len(classes) != num_classes:
        raise ValueError(f"{path} has {len(classes)} classes, not {num_classes}; {AGAIN}")
    files = [
        (file, label)
        for label, folder in enumerate(classes)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in ENDINGS and not is_hidden(file.name)
    ]
    if len(files) != count:
        raise ValueError(f"{path} has {len(files)} images, the test set has {count}; {AGAIN}")
    return files


def _image(file: Path, input_shape: tuple[int, ...]) -> Tensor:
    """Return the image in a file, uint8 C x H x W."""
    channels, height, width = input_shape
    try:
        image = pixels(file.read_bytes(), channels, None, f"{file} is an image", AGAIN)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror or error}); {AGAIN}") from None
    if image.shape[1:] != (height, width):
        size = "x".join(map(str, image.shape[:0:-1]))
        raise ValueError(f"{file} is {size} pixels, the model takes {width}x{height}")
    return torch.from_numpy(np.ascontiguousarray(image))
