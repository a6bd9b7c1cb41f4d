"""sms-dist sweep: a grid of experiments, run, submitted or only shown."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import click

from sms_dist.base.plain import path
from sms_dist.base.process import DONE, FAILED, STOPPED
from sms_dist.cli.commands import accept_option, config_options


@click.command(
    epilog="Example: sms-dist sweep --config configs/digits_sms.yaml "
    "--set method.name=sms,imp,imp_m_times --set seed=0,1,2 --share-dense"
)
@config_options
@accept_option
@click.option("--to", type=path, help="Folder of the run folders (default: records.root/name).")
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
@click.option(
    "--cluster", "cluster_file", type=path, help="With --submit: YAML file; see slurm/README.md."
)
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
    options: tuple[str, ...],
    to: Path | None,
    nproc: int | None,
    num_jobs: int,
    is_sharing: bool,
    dry_run: bool,
    is_submitting: bool,
    cluster_file: Path | None,
    at_most: int | None,
    is_fresh: bool,
) -> None:
    """Run a grid of experiments: --set KEY.PATH=V1,V2,... for all combinations of several keys.

    Commas in [], {} and quotes do not part. Each point has a run folder named after what varies.
    Points that are done are skipped, others go on where they stopped; all are checked before the
    first one starts. A run's output is in logs/sweep.log of its folder.

    Exit status: 0 all done, 1 some failed (the others are run all the same), 2 bad input, 75
    stopped by Ctrl-C.
    """
    if is_submitting != (cluster_file is not None):
        raise ValueError("--submit and --cluster go together; see slurm/README.md")
    if is_submitting and nproc is not None:
        raise ValueError(f"--nproc {nproc}: with --submit the cluster file says how many ranks")
    if not is_submitting and (at_most is not None or is_fresh):
        raise ValueError("--at-most and --fresh-code need --submit; beside each other: --jobs")

    from sms_dist.cli import grid
    from sms_dist.cli import sweep as runs_of
    from sms_dist.cli.slurm.cluster import load_cluster

    cluster = None if cluster_file is None else load_cluster(cluster_file)
    ranks = cluster.num_ranks if cluster else nproc
    runs = grid.sweep_runs(config_file, settings, to=to, num_ranks=ranks, is_sharing=is_sharing)
    runs = [replace(run, options=options) for run in runs]
    if cluster:
        for line in runs_of.submit_all(runs, cluster, at_most, is_fresh, dry_run):
            click.echo(line)
    elif dry_run:
        for run in runs:
            words = ["sms-dist", "run", *run.arguments(config_file), "--nproc", str(run.num_ranks)]
            click.echo(f"# {run.state}: {run.point.label}")
            click.echo(f"{'# ' if run.state == 'done' else ''}{shlex.join(words)}")
    else:
        outcomes = runs_of.run_all(runs, config_file, num_jobs)
        for line in runs_of.ending(outcomes):
            click.echo(line)
        statuses = {outcome.status for outcome in outcomes}
        is_stopped = bool(statuses & {"stopped", "not started"})
        sys.exit(FAILED if "failed" in statuses else STOPPED if is_stopped else DONE)
