"""Print which files of sms_dist a thing passes through in a real run, in the order of their entry.

A walk runs a small experiment in this process, on one rank, and notes every file of ours that is
entered while the walk is under way. For another walk write a function that gives its experiment,
when it begins and ends and which calls count, and name it in WALKS.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
PACKAGE = f"{REPOSITORY / 'sms_dist'}/"
EXAMPLE = """example:
  .venv/bin/python tests/walks.py batch
  .venv/bin/python tests/walks.py weights"""


@dataclass(frozen=True)
class Event:
    """A call, or a return with its result, of a function of ours."""

    kind: str  # call or return: a generator is called and returns for each of its items
    file: str  # in sms_dist
    function: str
    arguments: Mapping[str, Any]  # and other local names
    result: Any


@dataclass
class Walk:
    """A small experiment, and the part of it that is watched: `begins` to `ends`, each time."""

    config: dict[str, Any]
    begins: Callable[[Event], bool]
    ends: Callable[[Event], bool]
    counts: Callable[[Event], bool] = lambda event: event.kind == "call"
    files: dict[str, None] = field(default_factory=dict)  # that were entered, the first one first
    is_under_way: bool = False

    def profile(self, frame: FrameType, kind: str, result: Any) -> None:
        """Note a call or a return, as sys.setprofile reports it."""
        name = frame.f_code.co_filename
        if kind not in ("call", "return") or not name.startswith(PACKAGE):
            return
        file = name.removeprefix(PACKAGE)
        event = Event(kind, file, frame.f_code.co_name, frame.f_locals, result)
        if not self.is_under_way and self.begins(event):
            self.is_under_way = True
        if self.is_under_way and self.counts(event):
            self.files.setdefault(file)
        if self.is_under_way and self.ends(event):
            self.is_under_way = False


def batch(folder: Path) -> Walk:
    """Return the walk of a streamed batch, from asking the loader for it to the loss."""
    write_streets(folder / "shards")
    data = {
        "name": "card",
        "path": str(folder / "shards"),
        "loader": "streaming",
        "batch_size": 8,
        "workers": 0,  # the reading is done in this process, where it is seen
    }
    config = {
        "data": data,
        "model": {"name": "resnet20", "options": {"width": 4}},
        "pretrain": {"epochs": 1},
        "retrain": {"epochs": 1},
        "pruning": {"phases": 1, "goal_sparsity": 0.5},
        "candidates": {"count": 2},
        "engine": {"device": "cpu", "name": "ddp"},
        "records": {"tensorboard": False},
    }

    def begins(event: Event) -> bool:
        is_training = event.arguments.get("augmentation") is not None
        is_call = event.kind == "call" and event.function == "_batches"
        return event.file.startswith("data/") and is_call and is_training

    def ends(event: Event) -> bool:
        if event.kind == "call":
            return False
        is_loss = event.file.startswith("tasks/") and event.function == "loss"
        return is_loss or (event.function == "_batches" and event.result is None)  # none are left

    return Walk(config, begins, ends)


def weights(folder: Path) -> Walk:
    """Return the walk of the weights, from the dense model to the start of the second phase.

    Files count in which a function is given weights, or returns them: as a state, in a model, an
    engine or a record.
    """
    config = {
        "data": {"name": "digits", "train_samples": 200, "batch_size": 50},
        "model": {"options": {"width": 4}},
        "pretrain": {"epochs": 1},
        "retrain": {"epochs": 1},
        "pruning": {"phases": 2},
        "candidates": {"count": 2},
        "engine": {"device": "cpu"},
    }
    starts = []

    def begins(event: Event) -> bool:
        return event.kind == "return" and event.function == "dense_model"

    def ends(event: Event) -> bool:
        if event.kind == "return" and event.function == "common_start":
            starts.append(event)
        return len(starts) == 2

    def counts(event: Event) -> bool:
        values = event.arguments.values() if event.kind == "call" else [event.result]
        return any(_has_weights(value) for value in values)

    return Walk(config, begins, ends, counts)


def _has_weights(value: Any, depth: int = 2) -> bool:
    """Return whether a value is a model or a state of one, or has one in its fields or items."""
    from torch import Tensor, nn

    if isinstance(value, nn.Module):
        return True
    if isinstance(value, dict):
        tensor = value.get("classifier.weight")
        return isinstance(tensor, Tensor) and tensor.is_floating_point()
    if depth and isinstance(value, list | tuple):
        return any(_has_weights(each, depth - 1) for each in value)
    if depth and type(value).__module__.startswith("sms_dist.") and hasattr(value, "__dict__"):
        return any(_has_weights(each, depth - 1) for each in vars(value).values())
    return False


WALKS = {"batch": batch, "weights": weights}


def write_streets(folder: Path) -> None:
    """Write shards of photographs in several sizes, with a card as ImageNet's."""
    from sms_dist.data.prepare.writer import write

    def samples(count: int, seed: int) -> Iterator[tuple[str, dict[str, bytes]]]:
        chance = np.random.default_rng(seed)
        for number in range(count):
            buffer = io.BytesIO()
            pixels = chance.integers(0, 256, (40 + number % 5, 48, 3), np.uint8)
            Image.fromarray(pixels).save(buffer, "JPEG")
            yield f"{number:04d}", {"jpg": buffer.getvalue(), "cls": b"%d" % (number % 2)}

    half = [0.5, 0.5, 0.5]
    card = {"name": "streets", "size": [32, 32], "fit": "crop", "classes": 2, "mean": half}
    card |= {"std": half, "augment": "random_resized_crop"}
    splits = {"train": samples(40, 0), "test": samples(16, 1)}
    texts = {"card.yaml": json.dumps(card)}
    write(folder, "streets", ["a", "b"], splits, 20, lambda line: None, texts)


def walk(name: str) -> list[str]:
    """Run the experiment of a walk and return the files that were entered."""
    from sms_dist.config.file import load
    from sms_dist.start.session import Session

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        chosen = WALKS[name](folder)
        (folder / "config.yaml").write_text(json.dumps(chosen.config))
        session = Session.open(load(folder / "config.yaml", ()), folder / "run")
        sys.setprofile(chosen.profile)  # of this thread alone
        try:
            session.run()
        finally:
            sys.setprofile(None)
    return list(chosen.files)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=WALKS)
    files = walk(parser.parse_args().name)
    for number, file in enumerate(files, 1):
        print(f"{number:3} sms_dist/{file}")


if __name__ == "__main__":
    main()
