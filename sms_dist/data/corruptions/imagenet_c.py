"""The published ImageNet-C: a tree of JPEG files for each corruption and severity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sms_dist.data.corruptions import SEVERITIES, CorruptedSet
from sms_dist.data.dataset import DatasetInfo

ENDINGS = (".jpeg", ".jpg", ".png")
AGAIN = "unpack it again"


def imagenet_c(folder: Path, info: DatasetInfo, names: Sequence[str]) -> list[CorruptedSet]:
    """<corruption>/<severity>/<class>/*.JPEG, with or without a folder for the family above.

    Classes count in the order of their folders' names, samples by class and file name. The files of
    a set are listed and counted when it is first read.
    """
    places = {(name, s): place(folder, name) / str(s) for name in names for s in SEVERITIES}
    missing = [f"{name}/{s}" for (name, s), path in places.items() if not path.is_dir()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"{folder} lacks {', '.join(missing[:3])}{more}; {AGAIN}")
    return [
        CorruptedSet(name, severity, info.num_test, partial(_read, path, info))
        for (name, severity), path in places.items()
    ]


def place(folder: Path, name: str) -> Path:
    """The folder of a corruption: its tar files unpack to noise/gaussian_noise or without noise."""
    return next((path for path in sorted(folder.glob(f"*/{name}")) if path.is_dir()), folder / name)


def _read(path: Path, info: DatasetInfo, start: int, stop: int) -> tuple[Tensor, Tensor]:
    chosen = _files(path, info.num_classes, info.num_test)[start:stop]
    images = torch.empty(len(chosen), *info.input_shape, dtype=torch.uint8)
    for number, (file, _label) in enumerate(chosen):
        images[number] = _image(file, info.input_shape)
    return images, torch.tensor([label for _file, label in chosen], dtype=torch.int64)


@lru_cache(maxsize=1)  # sets are read one after the other, and a list takes tens of MB
def _files(path: Path, num_classes: int, count: int) -> list[tuple[Path, int]]:
    """The files of a severity with their classes, in test order."""
    classes = sorted(folder for folder in path.iterdir() if folder.is_dir())
    if len(classes) != num_classes:
        raise ValueError(f"{path} has {len(classes)} classes, not {num_classes}; {AGAIN}")
    files = [
        (file, label)
        for label, folder in enumerate(classes)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in ENDINGS
    ]
    if len(files) != count:
        raise ValueError(f"{path} has {len(files)} images, the test set has {count}; {AGAIN}")
    return files


def _image(file: Path, input_shape: tuple[int, ...]) -> Tensor:
    """uint8 C x H x W."""
    channels, height, width = input_shape
    try:
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            if image.size != (width, height):
                found = "x".join(map(str, image.size))
                raise _SizeError(f"{file} is {found} pixels, the model takes {width}x{height}")
            pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    except _SizeError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).split(" <")[0].split(" '")[0]
        raise ValueError(f"{file} cannot be decoded ({reason}); {AGAIN}") from None
    return torch.from_numpy(pixels.reshape(height, width, channels)).permute(2, 0, 1)


class _SizeError(ValueError):
    """Apart from the ValueErrors that Pillow raises on damaged images."""
