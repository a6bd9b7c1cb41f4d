"""What the parts that handle whole models cost as models grow, from 1 million to 1 billion weights.

python benchmarks/scale_algorithms.py [--largest 1000000000] [--json FILE] [--plot STEM]

bf16 weights, memory-mapped from a file, at 90 % sparsity; a process of its own for each size. Time
is that of one thread, in ns a weight; memory is what the process holds more while the part works,
without the mask, soup or copy that is its result. The largest size needs 2 GB of disk beside the
weights' 2 GB, and 6 GB of memory. Takes about three minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from benchmarks.heap import give_back
from benchmarks.rows import Row, Target, report
from benchmarks.turns import peak_memory
from sms_dist.base.randomness import Stream
from sms_dist.data.loader import Batch, Loader, Step
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.pruning.allocation import ALLOCATIONS
from sms_dist.pruning.mask import Mask, apply_, full_mask
from sms_dist.pruning.patterns import keep_allocated
from sms_dist.run import store
from sms_dist.soups.diversity import gram
from sms_dist.soups.merge import CandidateShards
from sms_dist.soups.norms import recompute_
from sms_dist.soups.vector import SurvivingVector

MIB = 2**20
LAYER = 4_000_000  # weights of a layer, fewer in a smaller model
DRAWN = 1_000_000  # of which a file repeats these, each time in another scale
SIZES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
ENOUGH = 0.3  # seconds of repetitions
SAMPLES = 16  # of a batch
ALONE = Axis(None, 0, 1)
CPU = torch.device("cpu")
HERE = Topology(ALONE, ALONE, ALONE, None, CPU)
MOST = {"threshold": Target(at_most=200)}  # MiB at the largest size


@dataclass(frozen=True)
class Cost:
    """Of one part at one size."""

    part: str
    num_weights: int
    nanoseconds: float  # a weight
    extra: float  # MiB


def written(file: Path, num: int) -> None:
    """bf16 weights, of which each million has a scale of its own."""
    drawn = torch.randn(DRAWN, generator=torch.Generator().manual_seed(1))
    with file.open("wb") as out:
        for start in range(0, num, DRAWN):
            scale = 0.02 * (1 + start // DRAWN % 7 / 7)
            some = (drawn[: num - start] * scale).to(torch.bfloat16)
            out.write(some.view(torch.int16).numpy().tobytes())


def layers_of(file: Path, num: int) -> dict[str, Tensor]:
    """The weights as a model's, without reading them; what is changed stays in this process."""
    flat = torch.from_file(str(file), shared=False, size=num, dtype=torch.bfloat16)
    return {f"layer{i}": layer.view(-1, 1000) for i, layer in enumerate(flat.split(LAYER))}


def cost(part: str, num: int, work: Callable[[], object], result: float = 0) -> Cost:
    """The least time and the usual memory of some repetitions; `result` in bytes."""
    seconds, extra = [], []
    # The first time may pay for more than the work: libraries, a disk that is busy, or pages that
    # nobody has used yet, which a virtual machine has to ask its host for.
    while len(seconds) < 3 or (len(seconds) < 20 and sum(seconds) < ENOUGH):
        give_back()
        with peak_memory() as peak:
            start = time.perf_counter()
            made = work()
            seconds.append(time.perf_counter() - start)
        extra.append(peak() - result / MIB)
        del made
    return Cost(part, num, min(seconds) / num * 1e9, max(median(extra), 0.0))


def costs(folder: Path, num: int) -> list[Cost]:
    """Of every part, in this process."""
    written(folder / "weights", num)
    weights = layers_of(folder / "weights", num)
    for layer in weights.values():
        layer.sum()  # in memory from here on: mapped pages are none of the extra ones
    whole, kept = full_mask(weights, weights), num // 10

    def pruned() -> Mask:
        return keep_allocated(weights, whole, kept, ALLOCATIONS["global"])

    found = [cost("threshold", num, pruned, num)]
    mask = pruned()
    found.append(cost("digest of a mask", num, lambda: mask.digest))
    found.append(cost("sparsity", num, lambda: mask.sparsity))
    found += soup_costs(weights, mask, num)
    found.append(batch_norm_cost(weights, num))
    found += store_costs(folder / "stored", weights, mask, num)
    found.append(cost("mask applied", num, lambda: apply_(weights, mask)))
    return found


def soup_costs(weights: dict[str, Tensor], mask: Mask, num: int) -> list[Cost]:
    """Of two candidates on one rank: finding places, flattening, mixing and unflattening."""

    def merged() -> dict[str, Tensor]:
        vector = SurvivingVector(weights, list(weights), mask)
        own = {i: vector.flatten(weights) for i in range(2)}
        shards = CandidateShards(own, {0: 0, 1: 0}, vector.num_values, HERE)
        return vector.unflatten(shards.mix([0.5, 0.5]))

    pair = torch.stack([SurvivingVector(weights, list(weights), mask).flatten(weights)] * 2)
    distances = cost("inner products of two", num, lambda: gram(pair))
    return [cost("soup of two", num, merged, 2 * num), distances]


class Stack(nn.Module):
    """The weights as a network: each layer's outputs are normalised, and averaged to be the next
    one's inputs."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.weights = list(weights.values())
        self.norms = nn.ModuleList(nn.BatchNorm1d(len(weight)) for weight in self.weights)

    def forward(self, x: Tensor) -> Tensor:
        for weight, norm in zip(self.weights, self.norms, strict=True):
            x = norm(F.linear(x, weight)).view(len(x), -1, x.shape[1]).mean(1)
        return x


class Noise(Loader):
    """The same batch, drawn once, wherever it is asked for."""

    def __init__(self, num_samples: int, width: int) -> None:
        super().__init__(num_samples, SAMPLES)
        self._inputs = torch.randn(SAMPLES, width, dtype=torch.bfloat16)

    def _batches(self, steps: Iterable[Step], augmentation: Stream | None) -> Iterator[Batch]:
        targets = torch.zeros(SAMPLES, dtype=torch.int64)
        return (Batch((self._inputs,), targets, SAMPLES, SAMPLES) for _ in steps)


def batch_norm_cost(weights: dict[str, Tensor], num: int) -> Cost:
    """Of one batch; a statistic for each row of a weight, one for a thousand weights."""
    model = Stack(weights)
    loader = Noise(SAMPLES, next(iter(weights.values())).shape[1])
    return cost("batch norm of a batch", num, lambda: recompute_(model, loader, ALONE, CPU))


def store_costs(folder: Path, weights: dict[str, Tensor], mask: Mask, num: int) -> list[Cost]:
    """Of a folder with weights and mask, as a phase leaves it."""

    def saved() -> None:
        if store.is_complete(folder):
            store.discard(folder)
        store.save(folder, {"weights": weights, "mask": mask}, {})

    saving = cost("weights and mask stored", num, saved)
    loading = cost("weights read back", num, lambda: store.load_tensors(folder, "weights"), 2 * num)
    store.discard(folder)
    return [saving, loading]


def rows_of(found: Sequence[Cost]) -> list[Row]:
    """Two for each part: how time grows, and how much memory the largest takes."""
    rows = []
    for part in dict.fromkeys(one.part for one in found):
        series = [one for one in found if one.part == part]
        last = series[-1]
        told = ", ".join(f"{c.num_weights:.0e}: {c.nanoseconds:.3g} ns" for c in series)
        largest = f"{part}: {last.num_weights / 1e6:.0f} M weights"
        growth, base = last.nanoseconds / series[0].nanoseconds, "of 1 M weights"
        rows.append(Row("scale", largest, base, "x the time a weight", [growth], None, told))
        extra = f"{largest}, extra memory"
        # a promise about 1 B weights
        target = MOST.get(part) if last.num_weights == SIZES[-1] else None
        rows.append(Row("scale", extra, "", "MiB", [last.extra], target))
    return rows


def draw(found: Sequence[Cost], stem: Path) -> None:
    """Time a weight, and extra memory a weight, over the number of weights."""
    import matplotlib
    from matplotlib.figure import Figure

    from sms_dist.reports.figures import COLORS, MARKERS, STYLE

    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(8.4, 3.9), layout="constrained")
        left, right = canvas.subplots(1, 2)
        parts = list(dict.fromkeys(one.part for one in found))
        for i, part in enumerate(parts):
            series = [one for one in found if one.part == part]
            sizes = [one.num_weights for one in series]
            look = {"color": COLORS[i % 7], "marker": MARKERS[i % 7], "ms": 4, "lw": 1.3}
            if i >= len(COLORS):
                look["linestyle"] = "--"
            left.plot(sizes, [c.nanoseconds for c in series], label=part, **look)
            right.plot(sizes, [max(c.extra, 0.1) for c in series], **look)
        for at, label in ((left, "ns a weight"), (right, "extra memory, MiB")):
            at.set(xscale="log", yscale="log", xlabel="weights", ylabel=label)
        canvas.legend(loc="outside lower center", ncols=4)
        stem.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


def in_own_process(num: int) -> list[Cost]:
    command = [sys.executable, __file__, "--worker", str(num)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Cost(**fields) for fields in json.loads(done.stdout.splitlines()[-1])]


@click.command()
@click.option("--largest", default=SIZES[-1], show_default=True, help="Number of weights.")
@click.option("--json", "file", type=Path, help="Where to keep the rows.")
@click.option("--plot", "stem", type=Path, help="Where to draw, without the suffix .svg.")
@click.option("--worker", "size", type=int, hidden=True)
def main(largest: int, file: Path | None, stem: Path | None, size: int | None) -> None:
    torch.set_num_threads(1)
    if size is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps([vars(one) for one in costs(Path(folder), size)]))
        return
    found = [one for size in SIZES if size <= largest for one in in_own_process(size)]
    found.sort(key=lambda one: one.num_weights)
    report(rows_of(found), file)
    if stem is not None:
        draw(found, stem)


if __name__ == "__main__":
    main()
