"""What takes how much of one masked training step: its operations, and our Python around them.

python benchmarks/step_profile.py [--model resnet20] [--batch 128]                (about 15 s)

The step is that of a run: training loop, meter, watcher and keeper included. Times are of the
thread's own work; on a GPU of its kernels. Operations are profiled first, Python in another run.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Callable
from pathlib import Path

import click
from masked import Setting, by_us, engine_of
from torch.profiler import ProfilerActivity, profile

from sms_dist.mesh import topology

OURS = ("/sms_dist/", "/data/", "torch/random.py", "torch/cuda/random.py")


def print_operations(run: Callable[[], None], steps: int, most: int, is_cuda: bool) -> None:
    """The `most` that take longest, a step."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * is_cuda
    with profile(activities=activities) as profiler:
        run()
    own = {e: e.self_device_time_total if is_cuda else e.self_cpu_time_total
           for e in profiler.key_averages()}  # fmt: skip
    everything = sum(own.values())
    click.echo(f"{'operation':50} {'calls':>7} {'ms':>9} {'share':>7}")
    for event in sorted(own, key=own.__getitem__, reverse=True)[:most]:
        figures = f"{event.count / steps:7.1f} {own[event] / steps / 1000:9.3f}"
        click.echo(f"{event.key[:50]:50} {figures} {own[event] / everything:7.2%}")
    click.echo(f"{'all':50} {'':7} {everything / steps / 1000:9.3f}")


def print_python(run: Callable[[], None], steps: int, most: int) -> None:
    """Functions of ours and what seeds, with what they call; of those that a step calls."""
    profiler = cProfile.Profile()
    profiler.runcall(run)
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    found = {
        f"{Path(file).parent.name}/{Path(file).name}:{name}": (calls / steps, own, total)
        for (file, _, name), (_, calls, own, total, _) in stats.items()
        if any(part in file for part in OURS) and calls >= steps
    }
    click.echo(f"\n{'function':50} {'calls':>7} {'own ms':>9} {'in all':>9}")
    ordered = sorted(found, key=lambda name: found[name][2], reverse=True)
    for name in ordered[:most]:
        calls, own, total = found[name]
        click.echo(
            f"{name[-50:]:50} {calls:7.1f} {1e3 * own / steps:9.3f} {1e3 * total / steps:9.3f}"
        )


@click.command()
@click.option("--model", default="resnet20", show_default=True)
@click.option("--batch", default=128, show_default=True, help="Of all ranks together.")
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--steps", default=5, show_default=True)
@click.option("--most", default=20, show_default=True, help="Lines of each table.")
@click.option("--engine", default="ddp", show_default=True)
def main(model: str, batch: int, sparsity: float, steps: int, most: int, engine: str) -> None:
    mesh = topology.start(ranks_per_candidate=topology.world_size())
    setting = Setting(model, batch, sparsity, steps, mesh)
    run = by_us(setting, engine_of(setting, name=engine)[1])
    run()  # warms up
    is_cuda = mesh.device.type == "cuda"
    if mesh.world.is_first:
        click.echo(
            f"{model}, batch {batch}, {mesh.world.size} ranks, {steps} steps, a step each:\n"
        )
        print_operations(run, steps, most, is_cuda)
        print_python(run, steps, most)
    else:
        run()
        run()
    sys.stdout.flush()
    topology.stop(mesh)


if __name__ == "__main__":
    main()
