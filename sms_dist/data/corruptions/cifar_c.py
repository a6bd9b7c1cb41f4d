"""The published CIFAR-10-C and CIFAR-100-C: an array of images for each corruption."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sms_dist.data.corruptions import SEVERITIES, CorruptedSet
from sms_dist.data.dataset import DatasetInfo, Read

LABELS = "labels.npy"
AGAIN = "unpack CIFAR-10-C or CIFAR-100-C again"
Array = NDArray[np.uint8]


def cifar_c(
    folder: Path, info: DatasetInfo, clean: Read, names: Sequence[str]
) -> list[CorruptedSet]:
    """<corruption>.npy: uint8, the test set at severity 1, then 2 ... 5, each N x H x W x C.

    The files are mapped, not read. Their order of samples may be another than that of `clean`, so
    labels are compared by how often each class occurs.
    """
    count = info.num_test
    labels = _labels(folder / LABELS, info, clean)
    channels, *size = info.input_shape
    shape = (len(SEVERITIES) * count, *size, channels)
    arrays = {name: _array(folder / f"{name}.npy", shape) for name in names}
    return [
        CorruptedSet(name, severity, count, partial(_read, array, labels, (severity - 1) * count))
        for name, array in arrays.items()
        for severity in SEVERITIES
    ]


def _read(array: Array, labels: Tensor, first: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    images = np.ascontiguousarray(array[first + start : first + stop].transpose(0, 3, 1, 2))
    return torch.from_numpy(images), labels[start:stop]


def _labels(path: Path, info: DatasetInfo, clean: Read) -> Tensor:
    """int64, of one severity."""
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


def _array(path: Path, shape: tuple[int, ...]) -> Array:
    """The mapped array of a file, once type and shape are right."""
    if not path.is_file():
        raise ValueError(f"{path} is missing; {AGAIN}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no array that can be read ({reason}); {AGAIN}") from None
    is_whole_number = array.dtype == np.uint8 or (array.ndim == 1 and array.dtype.kind in "ui")
    if array.shape != shape or not is_whole_number:
        found, wanted = ("x".join(map(str, sides)) for sides in (array.shape, shape))
        raise ValueError(f"{path} is {array.dtype} {found}, not uint8 {wanted}; {AGAIN}")
    assert isinstance(array, np.ndarray)
    return array
