"""Merging a ResNet-50's candidates at 90 % sparsity: against all-reduces of all their weights.

python benchmarks/soup.py [--turns 9] [--json FILE]

Four ranks with a candidate each. A merge goes from the candidates' states to the soup's; where the
surviving weights lie was found when the mask was, and finding that anew has a row of its own. The
flat all-reduce starts and ends with one vector of all weights; making it of a model and putting it
back has a row of its own as well. Takes about 45 seconds.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
import torch.distributed as dist
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks import resnet50
from benchmarks.heap import give_back
from benchmarks.rows import Row, Target, report
from benchmarks.turns import Turns, in_turn, on_ranks, peak_memory
from sms_dist.mesh import collectives, topology
from sms_dist.pruning.allocation import num_kept
from sms_dist.pruning.mask import Mask, apply_
from sms_dist.pruning.selection import keep_largest
from sms_dist.pruning.threshold import Layer
from sms_dist.soups.merge import Mixer
from sms_dist.soups.vector import SurvivingVector

NAME = "soup"
MIB = 2**20
AS_FAST = Target(at_least=5)


class Counted:
    """torch.distributed, with a count of the bytes that leave this rank."""

    def __init__(self) -> None:
        self.sent = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(dist, name)

    def all_to_all_single(self, received: Tensor, sent: Tensor, *rest: Any, group: Any) -> None:
        others = (group.size() - 1) / group.size()  # every rank gets as much
        self.sent += others * sent.numel() * sent.element_size()
        dist.all_to_all_single(received, sent, *rest, group=group)

    def all_gather(self, received: list[Tensor], sent: Tensor, *, group: Any) -> None:
        self.sent += (group.size() - 1) * sent.numel() * sent.element_size()
        dist.all_gather(received, sent, group=group)


@contextmanager
def counted() -> Iterator[Counted]:
    counting = Counted()
    collectives.dist = counting  # type: ignore[assignment]
    try:
        yield counting
    finally:
        collectives.dist = dist


def masked(state: dict[str, Tensor], sparsity: float) -> Mask:
    """The mask of one global ranking."""
    weights = resnet50.prunable(state)
    num = num_kept(sum(weight.numel() for weight in weights.values()), sparsity)
    kept = keep_largest([Layer(weight) for weight in weights.values()], num)
    return dict(zip(weights, kept, strict=True))


def worker(turns: int, sparsity: float) -> None:
    mesh = topology.start(device="cpu")
    world, num = mesh.world, mesh.num_groups
    like = resnet50.parameters(1)
    mask, state = masked(like, sparsity), resnet50.parameters(2 + world.rank)
    apply_(state, mask)
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    tensors = {name: tensor.clone() for name, tensor in state.items()}
    owners, even = {i: i for i in range(num)}, [1 / num] * num

    def vector() -> SurvivingVector:
        return SurvivingVector(like, list(like), mask)

    def mixer(where: SurvivingVector) -> Mixer:
        return Mixer(mesh, where, {world.rank: state}, owners)

    def by_tensor() -> None:
        for tensor in tensors.values():
            dist.all_reduce(tensor)
            tensor.div_(num)

    def flat_reduce() -> None:
        dist.all_reduce(flat)
        flat.div_(num)

    def whole_reduce() -> None:
        vector = torch.cat([tensor.flatten() for tensor in tensors.values()])
        dist.all_reduce(vector)
        vector.div_(num)
        sizes = [tensor.numel() for tensor in tensors.values()]
        for tensor, mean in zip(tensors.values(), torch.split(vector, sizes), strict=True):
            tensor.copy_(mean.view_as(tensor))

    known = vector()
    ready = mixer(known)
    ways: dict[str, Callable[[], object]] = {
        "merge": lambda: mixer(known).mixed(even),
        "anew": lambda: mixer(vector()).mixed(even),
        "again": lambda: ready.mixed(even),
        "flat": flat_reduce,
        "whole": whole_reduce,
        "by tensor": by_tensor,
    }
    taken = in_turn(ways, turns, together)
    give_back()
    with peak_memory() as peak, counted() as counting:
        mixer(vector()).mixed(even)
    survivors = sum(int(mask[n].sum()) if n in mask else t.numel() for n, t in like.items())
    bound = 2 * (num - 1) / num * survivors * 4
    found = {
        "seconds": taken.seconds,
        "memory": peak() - flat.numel() * 4 / MIB,
        "sent": counting.sent,
        "bound": bound,
    }
    if world.is_first:
        print(json.dumps(found))
    topology.stop(mesh)


def together() -> None:
    gc.collect()
    dist.barrier()


def rows_of(found: dict[str, Any], sparsity: float) -> list[Row]:
    taken = Turns(found["seconds"])
    what = f"25.6 M fp32 weights at {sparsity:.0%}, 4 candidates on 4 ranks"
    flat, tensors = "all-reduce of one dense vector", "all-reduce tensor by tensor"
    whole = f"{flat}, made of the model and put back"
    bound = "reduce-scatter and all-gather of what survives"
    note = (
        f"{found['sent'] / MIB:.2f} MiB sent by a rank; the bound is 2 (n - 1) / n of the "
        "surviving values' bytes"
    )
    anew = "the same, with the places found anew"
    bytes_sent, again = [found["sent"] / found["bound"]], "another soup of the same candidates"
    extra = "extra peak memory of a rank, without the soup"
    return [
        Row(NAME, what, flat, "x its time", taken.times("merge", "flat"), Target(at_most=0.5)),
        Row(NAME, what, whole, "x its time", taken.times("merge", "whole")),
        Row(NAME, anew, flat, "x its time", taken.times("anew", "flat")),
        Row(NAME, what, tensors, "x as fast", taken.faster("merge", "by tensor"), AS_FAST),
        Row(NAME, "bytes", bound, "x", bytes_sent, Target(at_most=1.05), note),
        Row(NAME, again, flat, "x its time", taken.times("again", "flat")),
        Row(NAME, extra, "", "MiB", [found["memory"]]),
    ]


@click.command()
@click.option("--turns", default=9, show_default=True)
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--json", "file", type=Path, help="Where to keep the rows.")
@click.option("--worker", "is_worker", is_flag=True, hidden=True)
def main(turns: int, sparsity: float, file: Path | None, is_worker: bool) -> None:
    torch.set_num_threads(1)
    if is_worker:
        worker(turns, sparsity)
        return
    arguments = ["--worker", "--turns", turns, "--sparsity", sparsity]
    report(rows_of(on_ranks(4, "soup.py", *arguments), sparsity), file)


if __name__ == "__main__":
    main()
