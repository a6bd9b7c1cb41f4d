"""What a masked training step costs: ours against the bare loop, DeepSpeed against ours.

python benchmarks/step.py [--json FILE]                                           (about 100 s)

Ours is the training loop of a run, with all that watches and counts. The bare loop is DDP (on one
rank the plain model), SGD and a product with the mask for each gradient. Both train the same model
on a batch that lies in memory; that one step makes the same weights of them is checked first.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click
import torch
from masked import Setting, by_hand, by_us, engine_of
from rows import Row, Target, report
from turns import in_turn, on_ranks

from sms_dist.mesh import topology
from sms_dist.pruning.hold import Pruned

UPKEEPS = 20  # that are timed together


def worker(model: str, batch: int, sparsity: float, steps: int, turns: int) -> None:
    """Seconds of every way in every turn, of rank 0."""
    num_ranks = topology.world_size()
    mesh = topology.start(ranks_per_candidate=num_ranks)
    setting = Setting(model, batch, sparsity, steps, mesh)
    _check(Setting(model, batch, sparsity, 1, mesh))
    trained, bare = by_hand(setting)
    mask = setting.new()[1]
    upkeep = Pruned({trained.get_parameter(name): kept for name, kept in mask.items()})

    def keep() -> None:
        for _ in range(UPKEEPS):
            upkeep.gradients_()

    ways = {
        "bare": bare,
        "ddp": by_us(setting, engine_of(setting)[1]),
        "deepspeed": by_us(setting, engine_of(setting, name="deepspeed", zero_stage=0)[1]),
        "upkeep": keep,
    }
    seconds = in_turn(ways, turns).seconds
    if mesh.world.is_first:
        print(json.dumps(seconds))
    topology.stop(mesh)
    sys.stdout.flush()
    os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort


def _check(setting: Setting) -> None:
    """One step by hand and one by us are the same, but for rounding."""
    hand, run = by_hand(setting)
    run()
    ours, engine = engine_of(setting)
    by_us(setting, engine)()
    for one, other in zip(hand.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    engine.close()


def rows(num_ranks: int, seconds: dict[str, list[float]], steps: int, what: str) -> list[Row]:
    def times(way: str, baseline: str) -> list[float]:
        return [a / b for a, b in zip(seconds[way], seconds[baseline], strict=True)]

    ranks = "1 rank" if num_ranks == 1 else f"{num_ranks} ranks"
    shares = [100 * share * steps / UPKEEPS for share in times("upkeep", "ddp")]
    middle = sorted(seconds["ddp"])[len(seconds["ddp"]) // 2] / steps
    note = f"{1000 * middle:.0f} ms a step"
    ours, bare = f"masked training step, {what}, {ranks}", "the bare loop, same mathematics"
    return [
        Row("step", ours, bare, "x its time", times("ddp", "bare"), Target(at_most=1.03), note),
        Row("step", f"mask upkeep, {ranks}", "", "% of the step", shares, Target(at_most=1)),
        Row(
            "step",
            f"DeepSpeed ZeRO-0, fp32, {ranks}",
            "DDP engine",
            "x its time",
            times("deepspeed", "ddp"),
            Target(at_most=1.06),
        ),
    ]


@click.command()
@click.option("--model", default="resnet20", show_default=True)
@click.option("--batch", default=128, show_default=True, help="Of all ranks together.")
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--steps", default=2, show_default=True, help="That are timed together.")
@click.option("--turns", default=15, show_default=True)
@click.option("--ranks", "numbers", default=(1, 2), multiple=True, help="[default: 1 and 2]")
@click.option("--json", "file", type=Path, help="Write the rows here as well.")
@click.option("--worker", "is_worker", is_flag=True, hidden=True)
def main(model: str, batch: int, sparsity: float, steps: int, turns: int, numbers: tuple[int, ...],
         file: Path | None, is_worker: bool) -> None:  # fmt: skip
    if is_worker:
        worker(model, batch, sparsity, steps, turns)
    options = ["--model", model, "--batch", batch, "--sparsity", sparsity]
    options += ["--steps", steps, "--turns", turns]
    found: list[Row] = []
    for number in numbers:
        seconds = on_ranks(number, "step.py", "--worker", *options)
        found += rows(number, seconds, steps, f"{model}, batch {batch}")
    report(found, file)


if __name__ == "__main__":
    main()
