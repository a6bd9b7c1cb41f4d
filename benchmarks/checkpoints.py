"""What checkpoints cost a training: the same one without, at the default interval, and harder.

python benchmarks/checkpoints.py --data cifar10 --path shards/cifar10 --model resnet20
python sms_dist/start/local_ranks.py --standalone --nproc-per-node=2 benchmarks/checkpoints.py

All take turns in the same processes, several times; ratios are of the medians. A training here is
shorter than the default interval, so what that costs is computed: the seconds that one point takes
from the training, by the seconds between two.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from sms_dist.config import Config, RecordsConfig
from sms_dist.config.file import load
from sms_dist.experiment.dense import DenseModel
from sms_dist.experiment.start import PhaseState, common_start
from sms_dist.mesh import topology
from sms_dist.mesh.collectives import from_first
from sms_dist.pruning.mask import full_mask
from sms_dist.run.checkpoint_files import RankCheckpoints
from sms_dist.run.logbook import GroupWatcher
from sms_dist.schedules.learning_rate import History
from sms_dist.soups.states import bare_state
from sms_dist.training.checkpoints import Checkpoint, Checkpointer
from sms_dist.training.context import Context, set_up
from sms_dist.training.retrain import Start, retrain

STEPS = 10
NONE = RecordsConfig(every_seconds=None)
WAYS = {
    "none": NONE,
    "default": RecordsConfig(),
    "every 5 s": RecordsConfig(every_seconds=5),
    f"every {STEPS} steps": NONE.model_copy(update={"every_steps": STEPS}),
}
FIXED = ("data.batch_size=128", "retrain.schedule=clr", "candidates.count=1")
BASELINE = "none"
PER_POINT = f"every {STEPS} steps"  # has the most of them


@dataclass
class Cost:
    """Of the checkpoints of one training, on this rank; seconds."""

    training: float = 0.0  # all of it, points included
    keeping: float = 0.0  # in the thread that trains: looks, points, waiting for the last one
    taking: list[float] = field(default_factory=list)  # of which for each point
    writing: list[float] = field(default_factory=list)  # of each point, in the background
    cpu: list[float] = field(default_factory=list)  # of each, that the writing thread used
    num_bytes: int = 0  # of one


class TimedPoints(RankCheckpoints):
    """Measures what the background thread does."""

    def __init__(self, folder: Path, rank: int, cost: Cost) -> None:
        super().__init__(folder, rank, {})
        self._cost = cost

    def _write(self, *arguments: object) -> None:
        start, start_cpu = time.perf_counter(), time.thread_time()
        super()._write(*arguments)
        self._cost.writing.append(time.perf_counter() - start)
        self._cost.cpu.append(time.thread_time() - start_cpu)


class TimedCheckpointer(Checkpointer):
    """Measures what the thread that trains spends on checkpoints, looks included."""

    cost: Cost

    def after_step(self, steps: int, capture: Callable[[], Checkpoint]) -> None:
        start = time.perf_counter()
        super().after_step(steps, capture)
        self.cost.keeping += time.perf_counter() - start

    def finish(self) -> None:
        start = time.perf_counter()
        super().finish()
        self.cost.keeping += time.perf_counter() - start

    def _save(self, capture: Callable[[], Checkpoint]) -> None:
        start = time.perf_counter()
        super()._save(capture)
        self.cost.taking.append(time.perf_counter() - start)


def trained(context: Context, start: Start, records: RecordsConfig, folder: Path) -> Cost:
    """One training with checkpoints as `records` wants them. Every rank must call."""
    cost, mesh, (candidate,) = Cost(), context.mesh, start.phase.candidates
    points = TimedPoints(folder, mesh.data.rank, cost)
    checkpointer = TimedCheckpointer(points, mesh.data, mesh.control, records, mesh.device)
    checkpointer.cost = cost
    num_steps = context.loaders.train.num_steps
    watcher = GroupWatcher(None, None, candidate.retrain.epochs, num_steps)
    begin = time.perf_counter()
    retrain(context, start, candidate, watcher, checkpointer)
    cost.training = time.perf_counter() - begin
    cost.num_bytes = sum(path.stat().st_size for path in folder.glob("a/*"))
    if mesh.is_leader:
        shutil.rmtree(folder, ignore_errors=True)
    return cost


def started(config: Config) -> tuple[Context, Start]:
    """A model that is pruned and not trained: its speed is that of any other."""
    context = set_up(config, topology.start(config.engine.ranks_per_candidate))
    state = {name: tensor.clone() for name, tensor in bare_state(context.new_model()).items()}
    dense = DenseModel(state, History((0.1,), 1), {})  # any rate will do
    standing = PhaseState(state, full_mask(state, context.prunable))
    return context, common_start(context, context.recipe.phases[0], standing, dense)


def new_folder(parent: Path | None) -> str:
    """With a new name: what a killed benchmark left would be gone on from."""
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    return tempfile.mkdtemp(prefix="checkpoints_", dir=parent)


def print_ratios(costs: dict[str, list[Cost]]) -> None:
    base = statistics.median(cost.training for cost in costs[BASELINE])
    for way, some in costs.items():
        times = [cost.training for cost in some]
        middle, points = statistics.median(times), statistics.mean(len(c.taking) for c in some)
        keeping = statistics.median(cost.keeping for cost in some) / middle
        spread = f"{min(times):.3f} ... {max(times):.3f}, n={len(times)}"
        told = f"{points:5.1f} points, {keeping:.2%} spent on them"
        click.echo(f"  {way:16} {middle:8.3f} s ({spread})  x {middle / base:.4f}  {told}")


def print_one_point(costs: list[Cost]) -> None:
    """What it takes, and what that is of the default interval."""
    taking, writing, cpu = (
        [seconds for cost in costs for seconds in each(cost)]
        for each in (lambda c: c.taking, lambda c: c.writing, lambda c: c.cpu)
    )
    click.echo(f"one point, {costs[0].num_bytes / 1e6:.2f} MB, in ms: median (range)")
    named = {"taken from training": taking, "written in": writing, "CPU of writing": cpu}
    for name, values in named.items():
        low, middle, high = (1000 * f(values) for f in (min, statistics.median, max))
        click.echo(f"  {name:20} {middle:8.2f} ({low:.2f} ... {high:.2f}, n={len(values)})")
    every = RecordsConfig().every_seconds
    assert every is not None
    least = statistics.median(taking) / every
    most = least + statistics.median(cpu) / every
    click.echo(
        f"at the default interval, {every:.0f} s: {least:.4%} of the time; {most:.4%} where all "
        "cores train"
    )


@click.command()
@click.option("--data", default="digits", show_default=True)
@click.option("--path", help="Folder of shards.")
@click.option("--model", default="digits_cnn", show_default=True)
@click.option("--samples", default=1437, show_default=True, help="For training.")
@click.option("--epochs", default=1, show_default=True, help="Of one training.")
@click.option("--repeats", default=5, show_default=True)
@click.option("--folder", type=Path, help="Where points are written. [default: a temporary one]")
@click.option("--set", "settings", multiple=True, metavar="KEY.PATH=VALUE")
def main(data: str, path: str | None, model: str, samples: int, epochs: int, repeats: int,
         folder: Path | None, settings: tuple[str, ...]) -> None:  # fmt: skip
    chosen = [f"data.name={data}", f"model.name={model}", f"data.train_samples={samples}"]
    chosen += [f"data.path={path}"] if path else []
    chosen += [f"retrain.epochs={epochs}", f"engine.ranks_per_candidate={topology.world_size()}"]
    config = load(None, [*FIXED, *chosen, *settings])
    context, start = started(config)
    steps = context.loaders.train.num_steps * epochs
    if steps < STEPS:
        raise click.UsageError(
            f"{steps} steps are too few for a point every {STEPS}; raise --epochs"
        )
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    root = Path(from_first(lambda: new_folder(folder), context.mesh.world, context.mesh.device))
    for turn in range(repeats + 1):
        for way, records in WAYS.items():
            cost = trained(context, start, records, root / f"{turn}_{way}")
            if turn:  # the first one warms up
                costs[way].append(cost)
    if context.mesh.world.is_first:
        click.echo(f"{steps} steps, {context.mesh.world.size} ranks, torch {torch.__version__}")
        print_ratios(costs)
        print_one_point(costs[PER_POINT])
        shutil.rmtree(root)
    topology.stop(context.mesh)


if __name__ == "__main__":
    main()
