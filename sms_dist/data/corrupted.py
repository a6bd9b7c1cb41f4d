"""Corrupted test sets by where they come from: published files, or made as they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sms_dist.base.lookup import lookup
from sms_dist.data.corruptions import BENCHMARK, SEVERITIES, CorruptedSet
from sms_dist.data.dataset import DatasetInfo, Read

if TYPE_CHECKING:
    from torch import Tensor

GENERATED = "generated"
FIELD = "data.corruptions"  # the configuration's key, for messages


def corrupted_sets(
    source: str,
    info: DatasetInfo,
    clean: Read,
    seed: int,
    names: Sequence[str] = BENCHMARK,
) -> list[CorruptedSet]:
    """The test set under each named corruption at severities 1 to 5, corruption by corruption.

    `source`: "generated", or a folder as CIFAR-10-C, CIFAR-100-C or ImageNet-C unpack. `clean`
    reads the test set itself. ValueError when files are missing or of another data set.
    """
    if source == GENERATED:
        return generated(info, clean, seed, names)
    from sms_dist.data.corruptions.cifar_c import LABELS, cifar_c
    from sms_dist.data.corruptions.imagenet_c import imagenet_c, place

    folder = Path(source)
    if not folder.is_dir():
        raise ValueError(f"{FIELD}={source} is no folder; name one, or set {FIELD}={GENERATED}")
    if (folder / LABELS).is_file() or any((folder / f"{name}.npy").is_file() for name in names):
        return cifar_c(folder, info, clean, names)
    if any(place(folder, name).is_dir() for name in names):
        return imagenet_c(folder, info, names)
    raise ValueError(
        f"{FIELD}={source} holds neither {names[0]}.npy and {LABELS} (CIFAR-C) nor"
        f" {names[0]}/1 (ImageNet-C); or set {FIELD}={GENERATED}"
    )


def generated(
    info: DatasetInfo, clean: Read, seed: int, names: Sequence[str] = BENCHMARK
) -> list[CorruptedSet]:
    """The test set corrupted by ourselves; a sample's place in it is its id."""
    from sms_dist.data.corruptions.generate import CORRUPTIONS

    for name in names:
        lookup(CORRUPTIONS, name, f"{FIELD}: corruption")
    return [
        CorruptedSet(
            name, severity, info.num_test, partial(_corrupted, clean, name, severity, seed)
        )
        for name in names
        for severity in SEVERITIES
    ]


def _corrupted(
    clean: Read, name: str, severity: int, seed: int, start: int, stop: int
) -> tuple[Tensor, Tensor]:
    import torch

    from sms_dist.data.corruptions.generate import corrupt

    images, targets = clean(start, stop)
    return corrupt(name, severity, images, torch.arange(start, stop), seed), targets
