"""Prepare a run folder for a job: check its settings, copy the code, record the job."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import sms_dist
from sms_dist.base.files import json_text, replacing
from sms_dist.base.lookup import own_files
from sms_dist.base.shipped import PACKAGE, package_files
from sms_dist.cli.slurm import jobs
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.cli.slurm.script import Place
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.config.compare import all_differences
from sms_dist.mesh.division import groups_of
from sms_dist.methods.plan import check_pretrain_ranks
from sms_dist.run.paths import RunPaths
from sms_dist.run.run_folder import SNAPSHOT_ORIGIN, check_same, commit_of

CONFIG = "config.yaml"
SUBMIT = "submit"


def check(config: Config, hosts: ClusterConfig, paths: RunPaths, is_fresh: bool) -> None:
    """Raise ValueError for what a job would find out only hours later."""
    for nodes in range(hosts.min_nodes or hosts.nodes, hosts.nodes + 1):
        ranks = nodes * hosts.ranks_per_node
        groups_of(ranks, config.engine.ranks_per_candidate)
        check_pretrain_ranks(config.pretrain.ranks, ranks)
    _check_settings(paths, config, is_fresh)


def place(hosts: ClusterConfig, code: Path, options: Sequence[str] = ()) -> Place:
    """Return where a job starts: in the current folder, from which relative paths count.

    Without an environment of the job's own, the Python that submits is the right one.
    """
    return Place(code, Path.cwd(), "python" if hosts.venv else sys.executable, tuple(options))


def check_alone(paths: RunPaths) -> None:
    """Raise ValueError if a job of the run waits or runs: two would fight about the folder."""
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


def _check_settings(paths: RunPaths, config: Config, is_fresh: bool) -> None:
    """Raise ValueError if a job could not go on in this folder, or only with other settings."""
    if paths.config.is_file():
        check_same(paths, config)
    kept = paths.snapshot / CONFIG
    if kept.is_file() and not is_fresh:
        changed = all_differences(config_file.load(kept), config)
        if changed:
            raise ValueError(
                f"{paths.snapshot} was submitted with other settings ({'; '.join(changed)}); "
                "--fresh-code takes those of now, and the code of now"
            )


def take(folder: Path, config: Config | None, *, has_code: bool, is_fresh: bool) -> bool:
    """Make a snapshot, all of it or nothing; one that is there is kept (False), unless `is_fresh`.

    Where a job of the run is at work, what it has imported stays, and the rest is of the new one.
    """
    if folder.is_dir() and not is_fresh:
        return False
    try:
        if not folder.parent.exists():  # a file there is an error that names it better
            folder.parent.mkdir(parents=True)
        with replacing(folder, swaps=True) as new:
            _write(new, config, has_code)
    except OSError as error:
        raise ValueError(
            f"the run folder {folder.parent} cannot be used: {error.strerror or error}; name "
            "another with --run-dir"
        ) from None
    return True


def _write(folder: Path, config: Config | None, has_code: bool) -> None:
    folder.mkdir()
    if config is not None:
        (folder / CONFIG).write_text(config_file.dump(config), encoding="utf-8")
    if has_code:
        own = {} if config is None else own_files(config.model_dump(mode="json", by_alias=True))
        for name, path in {**package_files(), **own}.items():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        (folder / SNAPSHOT_ORIGIN).write_text(json_text(_origin()))


def _origin() -> dict[str, str | None]:
    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "from": str(PACKAGE.parent),
        "commit": commit_of(),
        "version": sms_dist.__version__,
    }
