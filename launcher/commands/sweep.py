"""sms-dist sweep: a grid of experiments, run, submitted or only shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sms_dist.exit_status import DONE, FAILED, STOPPED

if TYPE_CHECKING:
    from launcher.cluster import ClusterConfig
    from launcher.sweeping.tasks import Task


@click.command(
    epilog="Example: sms-dist sweep --config configs/digits_sms.yaml "
    "--set method.name=sms,imp,imp_m_times --set seed=0,1,2 --share-dense"
)
@click.option(
    "--config", "config_file", type=Path, help="YAML file (default: the embedded experiment)."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY.PATH=V1,V2,...",
    help="Values of a key; several keys: all combinations. Commas in [] or {} do not part.",
)
@click.option("--to", type=Path, help="Folder of the run folders (default: records.root/name).")
@click.option(
    "--nproc",
    type=click.IntRange(min=1),
    help="Ranks of each point (default: one group, engine.ranks_per_candidate).",
)
@click.option(
    "--jobs",
    "num_jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Points that run side by side on this host.",
)
@click.option(
    "--share-dense",
    "is_sharing",
    is_flag=True,
    help="Pretrain once for all points with the same data, model, pretraining and seed.",
)
@click.option("--dry-run", is_flag=True, help="Print the grid and the commands (or job scripts).")
@click.option("--submit", "is_submitting", is_flag=True, help="As Slurm job arrays.")
@click.option("--cluster", type=Path, help="With --submit: YAML file; see slurm/README.md.")
@click.option(
    "--at-most",
    type=click.IntRange(min=1),
    metavar="K",
    help="With --submit: points of an array at the same time (default: as many as there is room).",
)
@click.option(
    "--fresh-code",
    "is_fresh",
    is_flag=True,
    help="With --submit: the code of now, not that of the first submission.",
)
def sweep(
    config_file: Path | None,
    settings: tuple[str, ...],
    to: Path | None,
    nproc: int | None,
    num_jobs: int,
    is_sharing: bool,
    dry_run: bool,
    is_submitting: bool,
    cluster: Path | None,
    at_most: int | None,
    is_fresh: bool,
) -> None:
    """Run a grid of experiments.

    Each point has a run folder named after what varies. Points that are done are skipped, others go
    on where they stopped; all are checked before the first one starts. A run's output is in
    logs/sweep.log of its folder.

    Exit status: 0 all done, 1 some failed (the others are run all the same), 2 bad input, 75
    stopped by Ctrl-C.
    """
    from launcher.sweeping.tasks import tasks

    if is_submitting != (cluster is not None):
        raise ValueError("--submit and --cluster go together; see slurm/README.md")
    if is_submitting and nproc is not None:
        raise ValueError(f"--nproc {nproc}: with --submit the cluster file says how many ranks")
    if not is_submitting and (at_most is not None or is_fresh):
        raise ValueError("--at-most and --fresh-code need --submit; beside each other: --jobs")
    hosts = None if cluster is None else _cluster(cluster)
    ranks = hosts.num_ranks if hosts else nproc
    grid = tasks(config_file, settings, to=to, num_ranks=ranks, is_sharing=is_sharing)
    if hosts is not None:
        _submit(grid, hosts, at_most, is_fresh, dry_run)
    elif dry_run:
        _show(grid, config_file)
    else:
        sys.exit(_run(grid, config_file, num_jobs))


def _cluster(file: Path) -> ClusterConfig:
    from launcher.cluster import load_cluster

    return load_cluster(file)


def _show(grid: Sequence[Task], config_file: Path | None) -> None:
    from rich.console import Console

    from launcher.sweeping.screen import run_line, show_grid
    from launcher.sweeping.tasks import state

    show_grid(grid, Console())
    for task in grid:
        if state(task) != "done":
            click.echo(run_line(task, config_file))


def _run(grid: Sequence[Task], config_file: Path | None, num_jobs: int) -> int:
    from rich.console import Console

    from launcher.sweeping.children import run_all
    from launcher.sweeping.screen import Progress, ending

    with Progress(grid, Console()) as progress:
        outcomes = run_all(grid, config_file, num_jobs, progress.tell, progress.watch)
    for line in ending(outcomes):
        click.echo(line)
    found = {outcome.status for outcome in outcomes}
    if "failed" in found:
        return FAILED
    return STOPPED if found & {"stopped", "not started"} else DONE


def _submit(
    grid: Sequence[Task], hosts: ClusterConfig, at_most: int | None, is_fresh: bool, dry_run: bool
) -> None:
    from launcher.sweeping import arrays

    lines = arrays.shown if dry_run else arrays.submit
    for line in lines(grid, hosts, at_most, is_fresh):
        click.echo(line)
