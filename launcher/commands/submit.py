"""sms-dist submit: an experiment as a Slurm job."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.commands.options import config_options, run_dir_option

if TYPE_CHECKING:
    from sms_dist.config import Config

REPOSITORY = Path(__file__).resolve().parents[2]


@click.command(
    epilog="Example: sms-dist submit --cluster slurm/clusters/example_gpu.yaml "
    "--config configs/digits_sms.yaml --dry-run"
)
@config_options
@run_dir_option
@click.option("--cluster", type=Path, required=True, help="YAML file; see slurm/README.md.")
@click.option("--dry-run", is_flag=True, help="Print the script, do not submit it.")
def submit(
    config_file: Path | None,
    settings: tuple[str, ...],
    run_dir: Path | None,
    cluster: Path,
    dry_run: bool,
) -> None:
    """Submit an experiment to Slurm.

    Submitted again with the same run folder, it goes on where it stopped.
    """
    from launcher.planned import planned
    from launcher.slurm import load_cluster, sbatch_script
    from sms_dist.config_file import load

    config, hosts = load(config_file, settings), load_cluster(cluster)
    planned(config, hosts.nodes * hosts.ranks_per_node)
    _check_paths(config)
    # Absolute, because the job starts in the repository and not where the user is now.
    folder = (run_dir or Path(config.records.root) / config.name).absolute()
    script = sbatch_script(
        hosts,
        job_name=config.name,
        config_path=config_file and config_file.absolute(),
        run_dir=folder,
        settings=settings,
        repository=REPOSITORY,
    )
    if dry_run:
        click.echo(script, nl=False)
    else:
        click.echo(_submitted(_written(script, folder)))


def _check_paths(config: Config) -> None:
    paths = {"data.path": config.data.path, "pretrain.from": config.pretrain.from_}
    for field, path in paths.items():
        if path is not None and not Path(path).is_absolute() and Path.cwd() != REPOSITORY:
            raise ValueError(
                f"{field}={path} is relative, and the job starts in {REPOSITORY}; "
                f"write {Path(path).absolute()}, or submit from there"
            )


def _written(script: str, run_dir: Path) -> Path:
    """The script's file; its folder has to be there before Slurm opens the job's log in it."""
    from sms_dist.paths import RunPaths

    logs = RunPaths(run_dir).logs
    try:
        logs.mkdir(parents=True, exist_ok=True)
        file = logs / "job.sbatch"
        file.write_text(script, encoding="utf-8")
    except OSError as error:
        raise ValueError(
            f"the run folder {run_dir} cannot be used: {error.strerror}; name another with "
            "--run-dir"
        ) from None
    return file


def _submitted(file: Path) -> str:
    """What sbatch says of the new job."""
    try:
        done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError(
            f"sbatch is not installed here; submit {file} on the cluster's login node, or look at "
            "the script with --dry-run"
        ) from None
    if done.returncode:
        raise ValueError(f"sbatch refused {file} (status {done.returncode}): {done.stderr.strip()}")
    return done.stdout.strip()
