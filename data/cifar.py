"""CIFAR-10 and CIFAR-100 from a folder on disk: WebDataset shards or torchvision's files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data.dataset import DatasetInfo, Source, Split
from sms_dist.config import DataConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from data.resident import Images
    from data.shards import Sample

SplitName = Literal["train", "test"]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
MEAN_100, STD_100 = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
CLASSES_100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}  # torchvision's


def open_cifar10(config: DataConfig, info: DatasetInfo) -> Images:
    """3x32x32, ten classes."""
    from data.augment import crop_flip
    from data.resident import in_memory

    train, test = _read(config, info)
    return in_memory(train, test, info, config, MEAN, STD, crop_flip)


def open_cifar100(config: DataConfig, info: DatasetInfo) -> Images:
    """3x32x32, a hundred classes, rotated while training."""
    from data.augment import crop_flip_rotate
    from data.resident import in_memory

    train, test = _read(config, info)
    return in_memory(train, test, info, config, MEAN_100, STD_100, crop_flip_rotate)


_INFO = DatasetInfo("cifar10", 50_000, 10_000, (3, 32, 32), tuple(CLASSES.split()))
_INFO_100 = DatasetInfo("cifar100", 50_000, 10_000, (3, 32, 32), tuple(CLASSES_100.split()))
CIFAR10 = Source(_INFO, open_cifar10, is_embedded=False)
CIFAR100 = Source(_INFO_100, open_cifar100, is_embedded=False)


def samples(folder: Path, info: DatasetInfo, split: SplitName) -> Iterator[Sample]:
    """The samples of a split in stored order, whichever form the folder has."""
    if not folder.is_dir():
        raise ValueError(
            f"data.path={folder} is no folder; set it to the one that holds {info.name}"
        )
    name = FOLDERS[info.name]
    if folder.name == name or (folder / name).is_dir():
        return _from_torchvision(folder.parent if folder.name == name else folder, info, split)
    return _from_shards(folder, info, split)


def _read(config: DataConfig, info: DatasetInfo) -> tuple[Split, Split]:
    path = config.path
    if path is None:
        raise ValueError(
            f"data.name={info.name} needs data.path: a folder of WebDataset shards,"
            f" or the one that holds torchvision's {FOLDERS[info.name]}"
        )
    folder = Path(path)
    train = samples(folder, info, "train")
    if config.train_samples:
        train = islice(train, info.num_train)  # later shards are not opened
    test = samples(folder, info, "test")
    return (
        _gather(train, info.num_train, info, f"data.path={path}: train"),
        _gather(test, info.num_test, info, f"data.path={path}: test"),
    )


def _gather(stored: Iterable[Sample], count: int, info: DatasetInfo, place: str) -> Split:
    """Exactly `count` samples; ValueError when there are fewer or more."""
    import numpy as np
    import torch

    images = np.empty((count, *info.input_shape), np.uint8)
    labels = np.empty(count, np.int64)
    found = 0
    for _key, image, label in stored:
        if found < count:
            images[found], labels[found] = image, label
        found += 1
    if found != count:
        raise ValueError(
            f"{place} has {found} samples instead of {count}; copy the missing shards,"
            " or if this is the whole set, write its index.json with `sms-dist data prepare`"
        )
    return Split(torch.from_numpy(images), torch.from_numpy(labels))


def _from_shards(folder: Path, info: DatasetInfo, split: SplitName) -> Iterator[Sample]:
    from data import shards

    for path, expected in _shard_files(folder, info, split):
        found = 0
        for sample in shards.read(path, info.input_shape, info.num_classes):
            found += 1
            yield sample
        if expected is not None and found != expected:
            raise ValueError(
                f"{path} has {found} samples, index.json says {expected}; {shards.AGAIN}"
            )


def _shard_files(
    folder: Path, info: DatasetInfo, split: SplitName
) -> list[tuple[Path, int | None]]:
    """(file, samples according to index.json) of each shard; None where there is no index."""
    from data import index

    known = index.read(folder)
    if known is not None:
        return [(folder / shard.file, shard.samples) for shard in known.shards(split)]
    files = sorted(p for ending in ("tar", "tar.gz") for p in folder.glob(f"*{split}*.{ending}"))
    if not files:
        raise ValueError(
            f"data.path={folder} holds no *{split}*.tar or *{split}*.tar.gz"
            f" and no {FOLDERS[info.name]}; set data.path to the folder of {info.name}"
        )
    return [(file, None) for file in files]


def _from_torchvision(root: Path, info: DatasetInfo, split: SplitName) -> Iterator[Sample]:
    """torchvision compares checksums before it opens the files, which could run code."""
    from sms_dist.vision import torchvision

    datasets = torchvision().datasets
    make = datasets.CIFAR10 if info.name == "cifar10" else datasets.CIFAR100
    try:
        stored = make(str(root), train=split == "train", download=False)
    except RuntimeError as error:
        raise ValueError(
            f"data.path={root}: {FOLDERS[info.name]} is incomplete or damaged"
            f" ({error}); unpack it again"
        ) from None
    for number, (image, label) in enumerate(zip(stored.data, stored.targets, strict=True)):
        yield f"{split}{number:06d}", image.transpose(2, 0, 1), int(label)
