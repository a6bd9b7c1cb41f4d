"""CIFAR-10 and CIFAR-100 from a folder on disk: WebDataset shards or torchvision's files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data import carded
from data.card import AugmentName, Card, SampleCounts, SplitName

if TYPE_CHECKING:
    from data.decode import Decoded

Triple = tuple[float, float, float]
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


def is_torchvision(name: str, folder: Path) -> bool:
    """The folder is torchvision's, or holds it."""
    return folder.name == FOLDERS[name] or (folder / FOLDERS[name]).is_dir()


def samples(card: Card, folder: Path, split: SplitName) -> Iterator[tuple[str, Decoded]]:
    """Of a split in stored order, whichever form the folder has."""
    if is_torchvision(card.name, folder):
        return from_torchvision(card.name, folder, split)
    return carded.samples(card, folder, split)


def from_torchvision(name: str, folder: Path, split: SplitName) -> Iterator[tuple[str, Decoded]]:
    """torchvision compares checksums before it opens the files, which could run code."""
    from data.decode import Decoded
    from sms_dist.vision import torchvision

    root = folder.parent if folder.name == FOLDERS[name] else folder
    datasets = torchvision().datasets
    make = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    try:
        stored = make(str(root), train=split == "train", download=False)
    except RuntimeError as error:
        raise ValueError(
            f"data.path={root}: {FOLDERS[name]} is incomplete or damaged ({error}); unpack it again"
        ) from None
    for number, (image, label) in enumerate(zip(stored.data, stored.targets, strict=True)):
        yield f"{split}{number:06d}", Decoded(image.transpose(2, 0, 1), int(label))


def _card(name: str, classes: str, mean: Triple, std: Triple, augment: AugmentName) -> Card:
    return Card(
        name=name,
        size=(32, 32),
        fit="exact",
        classes=tuple(classes.split()),
        mean=mean,
        std=std,
        augment=augment,
        samples=SampleCounts(train=50_000, test=10_000),
    )


CIFAR10 = carded.source(_card("cifar10", CLASSES, MEAN, STD, "crop_flip"), samples)
CIFAR100 = carded.source(
    _card("cifar100", CLASSES_100, MEAN_100, STD_100, "crop_flip_rotate"), samples
)
