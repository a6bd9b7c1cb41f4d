"""What it takes to load CIFAR-10's images: ours that lie in memory, against torchvision's way.

python benchmarks/loader.py

Both crop, mirror and normalise the same 32x32 images. Ours work in the training process, on one
thread; torchvision's are a data set of PIL images behind a DataLoader with two workers. On a GPU,
ours are batches there, without a look at what the host is doing, and torchvision's go there from
pinned memory. Takes about 40 s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import Row, Target, report
from sms_dist import data
from sms_dist.base.randomness import stream
from sms_dist.base.vision import torchvision
from sms_dist.config import DataConfig
from sms_dist.data.augment import crop_flip
from sms_dist.data.dataset import Split
from sms_dist.data.loader import Loader, Pixels
from sms_dist.data.resident import Resident

CARD = data.image_source(DataConfig(name="cifar10"), "name").card
WORKERS = 2
Counted = Callable[[], int]  # goes through some images, and says how many


class PilImages(Dataset[tuple[Tensor, int]]):
    """As torchvision.datasets.CIFAR10 has them: an array of all, a PIL image and a class of one."""

    def __init__(self, images: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self._images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self._transform(Image.fromarray(self._images[index])), index % 10


def theirs(images: Tensor, batch_size: int, device: torch.device) -> Iterable[Any]:
    """The loader of most training scripts."""
    transforms = torchvision().transforms
    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(CARD.mean, CARD.std),
        ]
    )
    return DataLoader(
        PilImages(images, transform),
        batch_size,
        shuffle=True,
        num_workers=WORKERS,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )


def ours(images: Tensor, batch_size: int, device: torch.device) -> Loader:
    split = Split(images, torch.arange(len(images)) % 10)
    return Resident(split, batch_size, Pixels(CARD.mean, CARD.std, device), crop_flip, device)


def rate(epoch: Counted, seconds: float, device: torch.device) -> float:
    """Images a second, of whole epochs, until the time is over."""
    num, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < seconds or not num:
        num += epoch()
        if device.type == "cuda":
            torch.cuda.synchronize()
    return num / taken


def their_epoch(loader: Iterable[Any], device: torch.device) -> int:
    num = 0
    for inputs, targets in loader:
        inputs.to(device, non_blocking=True)
        num += len(targets.to(device, non_blocking=True))
    return num


def our_epoch(loader: Loader, number: int) -> int:
    order, augmentation = stream(0, "order", number), stream(0, "augmentation", number)
    return sum(batch.size for batch in loader.epoch(order, augmentation))


def waits_for_the_host(loader: Loader) -> bool:
    """Does a batch wait for the device? CUDA complains of every operation that does."""
    batches = loader.epoch(stream(0, "order"), stream(0, "augmentation"))
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in batches:
            pass
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


def on_gpu(loader: Loader, own: list[float]) -> list[Row]:
    waits = float(waits_for_the_host(loader))
    return [
        Row("loader", "batches on the GPU", "", "images/s", own, Target(at_least=1e6)),
        Row("loader", "waits of the host", "", "in an epoch", [waits], Target(at_most=0)),
    ]


@click.command()
@click.option("--images", "num_images", default=10_000, show_default=True)
@click.option("--batch-size", default=128, show_default=True)
@click.option("--turns", default=3, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="Of each way in each turn.")
@click.option("--json", "file", type=Path, help="File to write.")
def main(num_images: int, batch_size: int, turns: int, seconds: float, file: Path | None) -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    size = (num_images, 3, 32, 32)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    own_loader = ours(images, batch_size, device)
    their_loader = theirs(images, batch_size, device)
    their_epoch(their_loader, device)  # starts the workers
    our_epoch(own_loader, 0)
    own, other = [], []
    for turn in range(1, turns + 1):
        own.append(rate(lambda turn=turn: our_epoch(own_loader, turn), seconds, device))
        other.append(rate(lambda: their_epoch(their_loader, device), seconds, device))
    faster = [a / b for a, b in zip(own, other, strict=True)]
    baseline = f"torchvision and DataLoader({WORKERS} workers)"
    what = "in memory, crop and flip, one thread"
    note = f"images/s, medians: ours {sorted(own)[turns // 2]:,.0f}, theirs"
    note += f" {sorted(other)[turns // 2]:,.0f}"
    rows = [Row("loader", what, baseline, "x images/s", faster, Target(at_least=20), note)]
    report(rows + (on_gpu(own_loader, own) if device.type == "cuda" else []), file)


if __name__ == "__main__":
    main()
