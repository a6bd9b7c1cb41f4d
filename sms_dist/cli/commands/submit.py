"""sms-dist submit: an experiment as a Slurm job."""

from __future__ import annotations

from pathlib import Path

import click

from sms_dist.base.plain import path
from sms_dist.cli.commands import accept_option, config_options, run_dir_option


@click.command(
    epilog="Example: sms-dist submit --cluster slurm/clusters/example_gpu.yaml "
    "--config configs/digits_sms.yaml --dry-run"
)
@config_options
@run_dir_option
@accept_option
@click.option("--cluster", type=path, required=True, help="YAML file; see slurm/README.md.")
@click.option("--after", multiple=True, metavar="JOB", help="Start when this job has succeeded.")
@click.option(
    "--chain",
    "num_jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="N jobs, each after the other, instead of one that goes back into the queue.",
)
@click.option(
    "--fresh-code",
    "is_fresh",
    is_flag=True,
    help="Run the code and settings of now, not those of the first submission.",
)
@click.option("--dry-run", is_flag=True, help="Print the script, do not submit it.")
def submit(
    config_file: Path | None,
    settings: tuple[str, ...],
    run_dir: Path | None,
    options: tuple[str, ...],
    cluster: Path,
    after: tuple[str, ...],
    num_jobs: int | None,
    is_fresh: bool,
    dry_run: bool,
) -> None:
    """Submit an experiment to Slurm.

    The job runs a copy of code and settings, made now in the run folder. Before its time is up it
    saves what it has and goes back into the queue. Submitted again with the same run folder, it
    goes on where it stopped.
    """
    from sms_dist.cli.plan import planned
    from sms_dist.cli.slurm import jobs, submission
    from sms_dist.cli.slurm.cluster import load_cluster
    from sms_dist.cli.slurm.script import run_script
    from sms_dist.config.file import load
    from sms_dist.run.paths import RunPaths

    config, hosts = load(config_file, settings), load_cluster(cluster)
    planned(config, hosts.num_ranks)
    # Absolute, because the job starts in the repository and not where the user is now.
    paths = RunPaths((run_dir or Path(config.records.root) / config.name).absolute())
    submission.check(config, hosts, paths, is_fresh)
    dependency = jobs.afterok(after)
    script = run_script(
        hosts,
        submission.place(hosts, paths.snapshot, options),
        job_name=config.name,
        run_dir=paths.root,
        is_requeued=num_jobs is None,
    )
    if dry_run:
        click.echo(script, nl=False)
        return
    submission.check_alone(paths)
    if not submission.prepare(paths, config, has_code=True, is_fresh=is_fresh):
        click.echo(f"the code of the first submission is kept: {paths.snapshot}", err=True)
    file = jobs.write_script(script, paths.logs)
    for _ in range(num_jobs or 1):
        number = jobs.submit(file, dependency)
        submission.record(paths, number)
        click.echo(f"Submitted batch job {number}")
        dependency = f"afterany:{number}"
