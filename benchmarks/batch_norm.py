"""Batch-norm statistics recomputed by several ranks, against one rank alone.

python benchmarks/batch_norm.py

The same processes do both, in turn: all ranks together, and rank 0 by itself while the others sleep
in a collective and their cores are idle. A rank has one thread. Takes about 40 s.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.rows import Row, Target, report
from benchmarks.turns import in_turn, on_ranks
from sms_dist import data, models
from sms_dist.config import DataConfig, ModelConfig
from sms_dist.data.dataset import Split
from sms_dist.data.loader import Pixels
from sms_dist.data.resident import Resident
from sms_dist.mesh import topology
from sms_dist.mesh.collectives import sum_
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.soups.norms import recompute_

CARD = data.image_source(DataConfig(name="cifar10"), "name").card
ALONE = Axis(None, 0, 1)
BATCH_SIZE = 64


def images(num: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Split(pixels, torch.zeros(num, dtype=torch.int64))


def statistics(model: torch.nn.Module) -> Tensor:
    """A copy of all of them."""
    return torch.cat(
        [t.double().flatten() for name, t in model.named_buffers() if "running" in name]
    )


def measured(mesh: Topology, model_name: str, num_images: int, turns: int) -> dict[str, object]:
    """Seconds of both ways, and whether the statistics are the same. Every rank must call."""
    model = models.build(
        ModelConfig(name=model_name), (3, 32, 32), 10, seed=0, data_name="images"
    ).to(mesh.device)
    pixels = Pixels(CARD.mean, CARD.std, mesh.device)
    loader = Resident(images(num_images), BATCH_SIZE, pixels, None, mesh.device)
    found: dict[str, Tensor] = {}

    def recompute(way: str, axis: Axis | None) -> None:
        if axis is not None:
            recompute_(model, loader, axis, mesh.device)
            found[way] = statistics(model)

    ways = {
        "together": partial(recompute, "together", mesh.world),
        "alone": partial(recompute, "alone", ALONE if mesh.world.is_first else None),
    }
    meet = partial(sum_, torch.zeros(1, device=mesh.device), mesh.world)
    seconds = in_turn(ways, turns, before=meet).seconds
    is_same = torch.equal(found["together"], found.get("alone", found["together"]))
    return {"seconds": seconds, "is_same": is_same}


def rows(num_ranks: int, found: dict[str, object], what: str) -> list[Row]:
    seconds = found["seconds"]
    assert isinstance(seconds, dict)
    faster = [one / all_ for one, all_ in zip(seconds["alone"], seconds["together"], strict=True)]
    target = Target(at_least=0.9 * num_ranks)
    assert found["is_same"], "the statistics depend on the number of ranks"
    note = f"the statistics are the same bits; one rank: {min(seconds['alone']):.2f} s"
    return [
        Row(
            "batch norm", f"{num_ranks} ranks, {what}", "one rank", "x faster", faster, target, note
        )
    ]


@click.command()
@click.option("--ranks", default=2, show_default=True)
@click.option("--model", default="resnet20", show_default=True)
@click.option("--images", "num_images", default=2048, show_default=True)
@click.option("--turns", default=3, show_default=True)
@click.option("--worker", is_flag=True, hidden=True)
@click.option("--json", "file", type=Path, help="File to write.")
def main(
    ranks: int, model: str, num_images: int, turns: int, worker: bool, file: Path | None
) -> None:
    if worker:
        mesh = topology.start()
        found = measured(mesh, model, num_images, turns)
        if mesh.world.is_first:
            print(json.dumps(found))
        topology.stop(mesh)
        return
    options = ["--model", model, "--images", num_images, "--turns", turns]
    found = on_ranks(ranks, "batch_norm.py", "--worker", *options)
    report(rows(ranks, found, f"{model}, {num_images} images"), file)


if __name__ == "__main__":
    main()
