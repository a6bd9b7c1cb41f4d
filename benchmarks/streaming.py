"""Streaming against the resident loader and torchvision's transforms in a DataLoader, on one core
or several: images a second, the time to the first batch, and evaluation in parts.

python benchmarks/streaming.py --data cifar10 --path DIR --workers 0 --workers 2

All take turns in the same process, several times; ratios are of the medians.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sms_dist import data
from sms_dist.base.randomness import stream
from sms_dist.base.vision import torchvision
from sms_dist.config import DataConfig
from sms_dist.data.card import Card
from sms_dist.data.loader import Loader, Loaders
from sms_dist.data.streaming import Part, Streamed, open_streamed

CPU = torch.device("cpu")
NUM_PARTS = 64  # as evaluation asks for
BASELINE = "resident"


class OneByOne(Dataset[tuple[torch.Tensor, int]]):
    """What is usual: each sample is decoded and augmented for itself, out of the same bytes."""

    def __init__(self, part: Part, card: Card) -> None:
        t = torchvision().transforms

        self._part, self._card = part, card
        steps = [t.RandomCrop(card.size, 4), t.RandomHorizontalFlip(), t.ToTensor()]
        self._transform = t.Compose([*steps, t.Normalize(card.mean, card.std)])

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        number = int(self._part.numbers[index])
        fields = self._part.shards.fields(number, (*self._card.images, self._card.target))
        content = next(fields[name] for name in self._card.images if name in fields)
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG")).convert("RGB")
        return self._transform(image), int(fields[self._card.target])


def epoch(loader: Loader, number: int, start_step: int = 0) -> Iterator[Any]:
    address = stream(0, "order", number), stream(0, "augmentation", number)
    return loader.epoch(*address, start_step=start_step)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def drain(batches: Any, limit: int) -> None:
    for number, _ in enumerate(batches, 1):
        if number == limit:
            break


def in_parts(loader: Loader) -> None:
    for batches in loader.parts(range(NUM_PARTS), NUM_PARTS).values():
        for _ in batches:
            pass


def report(title: str, found: dict[str, list[float]], baseline: str) -> None:
    click.echo(f"\n{title}")
    base = statistics.median(found[baseline])
    for name, times in found.items():
        middle, spread = statistics.median(times), (min(times), max(times))
        span = f"{spread[0]:.3f} ... {spread[1]:.3f}"
        click.echo(f"  {name:28} {middle:8.3f} s ({span}, n={len(times)})  x {middle / base:.2f}")


def take_turns(work: dict[str, Callable[[int], Any]], repeats: int) -> dict[str, list[float]]:
    """Once each to warm up, then `repeats` times in turn; the argument is the turn."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, do in work.items():
            taken = seconds(lambda do=do, turn=turn: do(turn))
            if turn:
                found[name].append(taken)
    return found


@click.command()
@click.option("--data", "name", default="cifar10", show_default=True)
@click.option("--path", required=True, help="folder of shards")
@click.option("--cache", default=None, help="folder for unpacked shards")
@click.option("--workers", type=int, multiple=True, default=(0, 2), show_default=True)
@click.option("--batch-size", default=128, show_default=True)
@click.option("--steps", default=150, show_default=True, help="of an epoch that are timed")
@click.option("--repeats", default=5, show_default=True)
def main(
    name: str, path: str, cache: str | None, workers: tuple[int, ...], batch_size: int,
    steps: int, repeats: int,
) -> None:  # fmt: skip
    config = DataConfig(name=name, path=path, cache=cache)
    card = data.image_source(config, "--data").configured(config)
    info = data.info(config)
    resident = data.load(config).loaders(batch_size, CPU)

    def opened(count: int) -> tuple[Streamed, Loaders]:
        found = open_streamed(card, config.model_copy(update={"workers": count}), info)
        return found, found.loaders(batch_size, CPU)

    open_now = {count: opened(count) for count in workers}
    click.echo(f"{steps} steps of {batch_size} images, torch {torch.__version__}")
    work: dict[str, Callable[[int], Any]] = {
        BASELINE: lambda turn: drain(epoch(resident.train, turn), steps)
    }
    for count, (streamed, loaders) in open_now.items():
        usual = DataLoader(
            OneByOne(streamed.splits["train"], card), batch_size, shuffle=True, num_workers=count,
            persistent_workers=count > 0, prefetch_factor=config.prefetch if count else None,
        )  # fmt: skip
        work[f"streaming, {count} workers"] = lambda turn, ours=loaders: drain(
            epoch(ours.train, turn), steps
        )
        work[f"one by one, {count} workers"] = lambda turn, usual=usual: drain(usual, steps)
    report("training", take_turns(work, repeats), BASELINE)

    last = max(workers)
    num_steps = resident.train.num_steps
    starts = {f"{share:.0%}": int(share * (num_steps - 1)) for share in (0.0, 0.5, 0.99)}
    first = {
        share: lambda turn, step=step: next(epoch(opened(last)[1].train, turn, step))
        for share, step in starts.items()
    }
    report(f"opened anew, first batch from ... of the epoch, {last} workers",
           take_turns(first, max(repeats, 5)), "0%")  # fmt: skip

    evaluation: dict[str, Callable[[int], Any]] = {BASELINE: lambda turn: in_parts(resident.test)}
    for count, (_, loaders) in open_now.items():
        evaluation[f"streaming, {count} workers"] = lambda turn, ours=loaders: in_parts(ours.test)
    report(f"test samples in {NUM_PARTS} parts", take_turns(evaluation, repeats), BASELINE)


if __name__ == "__main__":
    main()
