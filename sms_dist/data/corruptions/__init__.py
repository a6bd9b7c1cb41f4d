"""Corrupted test images (Hendrycks & Dietterich, ICLR 2019): published files, or generated ones.

Nothing here imports torch before sets are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sms_dist.data.dataset import DatasetInfo, Read

# The benchmark: "OOD accuracy" is over these and all severities.
BENCHMARK = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = (1, 2, 3, 4, 5)
GENERATED = "generated"
FIELD = "data.corruptions"  # the configuration's key, for messages


@dataclass(frozen=True)
class CorruptedSet:
    """The test set under one corruption: `count` samples, in an order that never changes."""

    corruption: str
    severity: int
    count: int
    read: Read


def corrupted_sets(
    source: str,
    info: DatasetInfo,
    clean: Read,
    seed: int,
    names: Sequence[str] = BENCHMARK,
) -> list[CorruptedSet]:
    """Return the test set under each named corruption and severity, corruption by corruption.

    `source` is "generated", or a folder as CIFAR-10-C, CIFAR-100-C or ImageNet-C unpack. `clean`
    reads the test set itself. ValueError when files are missing or of another data set.
    """
    if source == GENERATED:
        from sms_dist.data.corruptions.generated import generated_sets

        return generated_sets(info, clean, seed, names)
    from sms_dist.data.corruptions import published

    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(f"{FIELD}={source} is no folder; name one, or set {FIELD}={GENERATED}")
    if any((folder / name).is_file() for name in published.cifar_c_files(names)):
        return published.cifar_c(folder, info, clean, names)
    if any(published.imagenet_c_folder(folder, name).is_dir() for name in names):
        return published.imagenet_c(folder, info, names)
    raise ValueError(
        f"{FIELD}={source} holds neither {names[0]}.npy and {published.LABELS} (CIFAR-C) nor"
        f" {names[0]}/1 (ImageNet-C); or set {FIELD}={GENERATED}"
    )
