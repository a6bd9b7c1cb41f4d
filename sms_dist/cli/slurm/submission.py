"""What a job needs beside its script: settings that fit, a snapshot, nobody else at work there."""

from __future__ import annotations

import sys
from pathlib import Path

from sms_dist.cli.slurm import jobs
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.cli.slurm.script import Place
from sms_dist.cli.slurm.snapshot import check_settings, take
from sms_dist.config import Config
from sms_dist.mesh.division import groups_of
from sms_dist.methods.plan import check_pretrain_ranks
from sms_dist.run.paths import RunPaths

SUBMIT = "submit"


def check(config: Config, hosts: ClusterConfig, paths: RunPaths, is_fresh: bool) -> None:
    """ValueError for what a job would find out only hours later."""
    for nodes in range(hosts.min_nodes or hosts.nodes, hosts.nodes + 1):
        ranks = nodes * hosts.ranks_per_node
        groups_of(ranks, config.engine.ranks_per_candidate)
        check_pretrain_ranks(config.pretrain.ranks, ranks)
    check_settings(paths, config, is_fresh)


def place(hosts: ClusterConfig, code: Path) -> Place:
    """Return where a job starts: in the current folder, from which relative paths count.

    Without an environment of the job's own, the Python that submits is the right one.
    """
    return Place(code, Path.cwd(), "python" if hosts.venv else sys.executable)


def check_alone(paths: RunPaths) -> None:
    """ValueError where a job of the run waits or runs: two would fight about the folder."""
    number = jobs.queued(paths, jobs.my_queue()) if jobs.recorded(paths) else None
    if number is not None:
        raise ValueError(
            f"job {number} of {paths.root} is in the queue already; wait for its end, or end it "
            f"with scancel {number}"
        )


def prepare(paths: RunPaths, config: Config, *, has_code: bool, is_fresh: bool) -> bool:
    """Make the snapshot (False: one was kept), and take back an earlier request to stop."""
    is_made = take(paths.snapshot, config, has_code=has_code, is_fresh=is_fresh)
    paths.stop.unlink(missing_ok=True)
    return is_made


def record(paths: RunPaths, number: str) -> None:
    """Write down that a job of the run was submitted."""
    try:
        jobs.record(paths, number, SUBMIT)
    except OSError as error:
        raise ValueError(
            f"job {number} is submitted, but that cannot be written into {paths.logs}: "
            f"{error.strerror}"
        ) from None
