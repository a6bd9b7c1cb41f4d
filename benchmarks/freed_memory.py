"""What a training step gains where its process keeps the memory that it frees.

python benchmarks/freed_memory.py [--model resnet20] [--json FILE]                 (about 3 minutes)

The bare loop on one rank, in processes of its own: with the variables that tell the C library to
keep what is freed, and without them. The same mathematics, and the same bits.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import click
from masked import Setting, by_hand
from rows import Row, report
from turns import ENVIRONMENT, KEEP_FREED_MEMORY, Turns, on_ranks

from sms_dist.mesh import topology

NAME = "freed memory"
DEFAULT = {name: text for name, text in ENVIRONMENT.items() if name not in KEEP_FREED_MEMORY}
WAYS = {"kept": ENVIRONMENT, "default": DEFAULT}


def worker(model: str, batch: int, steps: int) -> None:
    """Seconds and page faults of a step."""
    mesh = topology.start()
    _, run = by_hand(Setting(model, batch, 0.9, steps, mesh))
    run()
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    run()
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    faults = after.ru_minflt - before.ru_minflt
    found = {"seconds": seconds / steps, "faults": faults / steps, "peak": after.ru_maxrss / 1024}
    print(json.dumps(found), flush=True)
    topology.stop(mesh)


def measured(way: str, *arguments: object) -> dict[str, float]:
    """Return what a process of its own measures."""
    script = "freed_memory.py", "--worker", *arguments
    values: dict[str, float] = on_ranks(1, *script, variables=WAYS[way])
    return values


def row(what: str, found: dict[str, list[dict[str, float]]]) -> Row:
    taken = Turns({way: [each["seconds"] for each in found[way]] for way in WAYS})

    def middle(way: str, name: str) -> float:
        values = sorted(each[name] for each in found[way])
        return values[len(values) // 2]

    note = "; ".join(
        f"{way}: {middle(way, 'faults'):,.0f} page faults a step, peak {middle(way, 'peak'):.0f} "
        "MiB" for way in WAYS
    )  # fmt: skip
    return Row(
        NAME, what, "glibc's default", "x its time", taken.times("kept", "default"), None, note
    )


@click.command()
@click.option("--model", "names", default=("resnet20", "resnet18"), multiple=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--steps", default=3, show_default=True, help="That are timed together.")
@click.option("--turns", default=5, show_default=True)
@click.option("--json", "file", type=Path, help="Write the rows here as well.")
@click.option("--worker", "is_worker", is_flag=True, hidden=True)
def main(
    names: tuple[str, ...], batch: int, steps: int, turns: int, file: Path | None, is_worker: bool
) -> None:
    if is_worker:
        worker(names[0], batch, steps)
        return
    rows = []
    for name in names:
        arguments = ("--model", name, "--batch", batch, "--steps", steps)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for turn in range(turns):
            for way in list(WAYS)[:: 1 if turn % 2 else -1]:
                found[way].append(measured(way, *arguments))
        rows.append(row(f"bare training step, {name}, batch {batch}, 1 rank", found))
    report(rows, file)


if __name__ == "__main__":
    main()
