"""sms-dist sweep: a grid of experiments, run, submitted or only shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.commands.submit import submit

if TYPE_CHECKING:
    from launcher.sweeping.tasks import Task

FAILED, STOPPED = 1, 75


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
@click.option("--submit", "is_submitting", is_flag=True, help="One Slurm job per point.")
@click.option("--cluster", type=Path, help="With --submit: YAML file; see slurm/README.md.")
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
    ranks = nproc if cluster is None else _ranks_of(cluster)
    grid = tasks(config_file, settings, to=to, num_ranks=ranks, is_sharing=is_sharing)
    if cluster is not None:
        _submit(grid, config_file, cluster, dry_run)
    elif dry_run:
        _show(grid, config_file)
    else:
        sys.exit(_run(grid, config_file, num_jobs))


def _ranks_of(cluster: Path) -> int:
    from launcher.slurm import load_cluster

    hosts = load_cluster(cluster)
    return hosts.nodes * hosts.ranks_per_node


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
    return STOPPED if found & {"stopped", "not started"} else 0


def _submit(grid: Sequence[Task], config_file: Path | None, cluster: Path, dry_run: bool) -> None:
    """One job per point that can start now; what waits for a dense model is for the next call."""
    from launcher.sweeping.tasks import state

    states = {task.folder: state(task) for task in grid}
    waiting = 0
    for task in grid:
        if states[task.folder] == "done":
            click.echo(f"done: {task.point.label}")
        elif task.after is not None and states[task.after] != "done" and not dry_run:
            waiting += 1
        elif (task.paths.logs / "job.sbatch").exists() and not dry_run:
            click.echo(f"submitted before: {task.point.label} (again: sms-dist submit)")
        else:
            click.get_current_context().invoke(
                submit,
                config_file=config_file,
                settings=task.settings,
                run_dir=task.folder,
                cluster=cluster,
                dry_run=dry_run,
            )
    if waiting:
        click.echo(
            f"{waiting} points start from dense models that are not there yet: give the same "
            "command again when those jobs are done"
        )
