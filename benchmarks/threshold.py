"""The exact global threshold of a ResNet-50 and its mask: against one read pass, and torch's own.

python benchmarks/threshold.py [--turns 7] [--json FILE]

One thread. The mask is the result, and is not counted as extra memory. Takes half a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks import resnet50
from benchmarks.heap import give_back
from benchmarks.rows import Row, Target, report
from benchmarks.turns import in_turn, peak_memory
from sms_dist.pruning.allocation import ALLOCATIONS, num_kept
from sms_dist.pruning.mask import Mask, full_mask
from sms_dist.pruning.patterns import keep_allocated

SPARSITY = 0.9
NAME = "threshold"
MIB = 2**20


def pruned(weights: dict[str, Tensor], mask: Mask, sparsity: float = SPARSITY) -> Mask:
    """As a phase does it."""
    return keep_allocated(
        weights, mask, num_kept(mask.num_weights, sparsity), ALLOCATIONS["global"]
    )


def against_reading(weights: dict[str, Tensor], turns: int) -> list[Row]:
    whole = full_mask(weights, weights)
    half = pruned(weights, whole, 0.5)
    vector = torch.cat([weight.flatten() for weight in weights.values()])
    ways: dict[str, Callable[[], object]] = {
        "mask": lambda: pruned(weights, whole),
        "later": lambda: pruned(weights, half),
        "vector": lambda: vector.abs().sum(),
        "magnitudes": lambda: [weight.abs().sum() for weight in weights.values()],
        "sum": lambda: [weight.sum() for weight in weights.values()],
    }
    taken = in_turn(ways, turns)
    what, limit = "25.5 M fp32 weights at 90 %", Target(at_most=2.5)
    reading, adding = "abs().sum() layer by layer", "sum() layer by layer"
    first = "abs().sum() of one vector of all"
    return [
        Row(NAME, what, first, "x its time", taken.times("mask", "vector"), limit),
        Row(NAME, what, reading, "x its time", taken.times("mask", "magnitudes"), limit),
        Row(NAME, what, adding, "x its time", taken.times("mask", "sum"), limit),
        Row(
            NAME,
            "the same in a later phase, half of them gone",
            reading,
            "x its time",
            taken.times("later", "magnitudes"),
        ),
    ]


def memory(weights: dict[str, Tensor], turns: int) -> Row:
    whole, extra = full_mask(weights, weights), []
    for _ in range(turns):
        give_back()
        with peak_memory() as peak:
            mask = pruned(weights, whole)
        extra.append(peak() - mask.num_weights / MIB)
        del mask
    note = "peak of the process above its start, less the bool mask that is the result"
    return Row(NAME, "extra peak memory", "", "MiB", extra, Target(at_most=64), note)


def against_torch(weights: dict[str, Tensor]) -> Row:
    """`global_unstructured` on the same model; once, it takes seconds."""
    whole, made = full_mask(weights, weights), []

    def fresh() -> None:  # pruned modules keep what was done to them
        made[:] = [(layer(weight.clone()), "weight") for weight in weights.values()]

    def by_torch() -> None:
        method = torch_prune.L1Unstructured
        torch_prune.global_unstructured(made, pruning_method=method, amount=SPARSITY)

    taken = in_turn({"ours": lambda: pruned(weights, whole), "torch": by_torch}, 1, fresh)
    values, baseline = taken.faster("ours", "torch"), "torch.nn.utils.prune.global_unstructured"
    return Row(NAME, "the same", baseline, "x as fast", values, Target(at_least=25))


def layer(weight: Tensor) -> nn.Module:
    """Something that has this weight."""
    holder = nn.Module()
    holder.weight = nn.Parameter(weight)
    return holder


@click.command()
@click.option("--turns", default=7, show_default=True)
@click.option("--json", "file", type=Path, help="Where to keep the rows.")
def main(turns: int, file: Path | None) -> None:
    torch.set_num_threads(1)
    weights = resnet50.prunable(resnet50.parameters(1))
    rows = [*against_reading(weights, turns), memory(weights, 3), against_torch(weights)]
    report(rows, file)


if __name__ == "__main__":
    main()
