"""What it brings that only surviving gradients travel in a group: two ranks on two hosts.

python benchmarks/in_group_gradients.py [--json FILE]     (as root, with iproute2; about 100 s)

The hosts are network namespaces on this machine, joined by a link of 100 Mbit/s; then by one
without a limit. Both engines train the same pruned model on a batch in memory, and have to come to
the same bits. Bytes are those that the first host's network card has sent.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from masked import Setting, by_us, engine_of
from rows import Row, Target, report
from torch import nn
from turns import in_turn
from two_hosts import num_bytes_sent, on_hosts, two_hosts

from sms_dist.mesh import topology

WAYS = ("dense", "surviving")
MODEL, OPTIONS = "resnet18", {"stem": "large"}


def worker(batch: int, sparsity: float, steps: int, turns: int) -> None:
    """Seconds and bytes of each way, and how many bits of gradients and weights differ."""
    mesh = topology.start(ranks_per_candidate=2, device="cpu")
    setting = Setting(MODEL, batch, sparsity, steps, mesh, OPTIONS)
    made = {way: engine_of(setting, device="cpu", gradients=way) for way in WAYS}
    sent: dict[str, list[int]] = {way: [] for way in WAYS}

    def counted(way: str) -> Callable[[], None]:
        run = by_us(setting, made[way][1])

        def count() -> None:
            before = num_bytes_sent()
            run()
            sent[way].append((num_bytes_sent() - before) // steps)

        return count

    seconds = in_turn({way: counted(way) for way in WAYS}, turns).seconds
    answer = {
        "seconds": seconds,
        "bytes": {way: values[1:] for way, values in sent.items()},
        "differing": _num_differing(*(model for model, _ in made.values())),
        "values": sum(p.numel() for p in made["dense"][0].parameters()),
    }
    print(json.dumps(answer))
    topology.stop(mesh)
    sys.stdout.flush()
    os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort


def _num_differing(one: nn.Module, other: nn.Module) -> int:
    """Gradients of the last step, and weights after all steps, that are not the same bits."""
    pairs = [pair for both in zip(one.parameters(), other.parameters(), strict=True)
             for pair in (both, tuple(p.grad for p in both))]  # fmt: skip
    return sum(int((a.view(torch.int32) != b.view(torch.int32)).sum()) for a, b in pairs)


def rows(found: dict[str, Any], where: str, target: Target | None, steps: int) -> list[Row]:
    seconds, sent = found["seconds"], found["bytes"]
    faster = [a / b for a, b in zip(*(seconds[way] for way in WAYS), strict=True)]
    fewer = [a / b for a, b in zip(*(sent[way] for way in WAYS), strict=True)]
    medians = {way: (sorted(seconds[way])[len(seconds[way]) // 2] / steps) for way in WAYS}
    took = ", ".join(f"{way} {taken:.2f} s a step" for way, taken in medians.items())
    mega = ", ".join(f"{way} {sent[way][0] / 1e6:.2f} MB a step" for way in WAYS)
    name = "in-group gradients"
    return [
        Row(name, f"steps/s, {where}", "dense DDP", "x faster", faster, target, took),
        Row(name, f"bytes sent, {where}", "dense DDP", "x fewer", fewer, None, mega),
        Row(
            name,
            f"gradients and weights that differ in a bit, {where}",
            "",
            f"of {2 * found['values']}",
            [found["differing"]],
            Target(at_most=0),
        ),
    ]


@click.command()
@click.option("--mbit", default=100, show_default=True, help="Of the link, each way.")
@click.option("--batch", default=32, show_default=True, help="Of both ranks together.")
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--steps", default=1, show_default=True, help="That are timed together.")
@click.option("--turns", default=5, show_default=True)
@click.option("--json", "file", type=Path, help="Write the rows here as well.")
@click.option("--worker", "is_worker", is_flag=True, hidden=True)
def main(mbit: int, batch: int, sparsity: float, steps: int, turns: int, file: Path | None,
         is_worker: bool) -> None:  # fmt: skip
    if is_worker:
        worker(batch, sparsity, steps, turns)
    options = ["--batch", batch, "--sparsity", sparsity, "--steps", steps, "--turns", turns]
    what = f"ResNet-18 (usual stem, 32x32), batch {batch}, {sparsity:.0%} pruned"
    links = {f"{mbit} Mbit/s": (mbit, Target(at_least=5)), "no limit": (None, None)}
    found: list[Row] = []
    for link, (limit, target) in links.items():
        try:
            with two_hosts(limit) as names:
                answer = on_hosts(names, "in_group_gradients.py", "--worker", *options)
        except OSError as error:
            click.echo(f"skipped: {error}")
            return
        found += rows(answer, f"{what}, {link}", target, steps)
    report(found, file)


if __name__ == "__main__":
    main()
