"""sms-dist run: an experiment on the ranks of this host."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from sms_dist import start
from sms_dist.cli.commands import accept_option, config_options, run_dir_option, words

START = Path(start.__file__).resolve().parent  # of this code, wherever it is started from


@click.command(epilog="Example: sms-dist run --config configs/digits_sms.yaml --nproc 2")
@config_options
@run_dir_option
@accept_option
@click.option(
    "--nproc",
    type=click.IntRange(min=1),
    help="Ranks on this host (default: one group, engine.ranks_per_candidate).",
)
def run(
    config_file: Path | None,
    settings: tuple[str, ...],
    run_dir: Path | None,
    options: tuple[str, ...],
    nproc: int | None,
) -> None:
    """Run an experiment on this host.

    Started again with the same run folder, it goes on where it stopped.

    Exit status: 0 done, 2 bad input, 75 stopped on request and resumable, else failure. On several
    hosts use torchrun itself, or `sms-dist submit` on Slurm.
    """
    from sms_dist.cli.plan import planned
    from sms_dist.config.file import load

    ranks = planned(load(config_file, settings), nproc).num_ranks
    folder = [] if run_dir is None else ["--run-dir", str(run_dir)]
    arguments = [*words(config_file, settings), *folder, *options]
    # The process becomes the launcher, so that signals and exit status need nobody in between.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    os.execve(sys.executable, command(ranks, arguments), environment)


def command(
    num_ranks: int, arguments: Sequence[str], main: Path = START / "__main__.py"
) -> list[str]:
    """Return the command that starts the ranks; a single one needs no torchrun."""
    if num_ranks == 1:
        return [sys.executable, str(main), *arguments]
    torchrun = [str(START / "local_ranks.py"), "--standalone", f"--nproc-per-node={num_ranks}"]
    return [sys.executable, *torchrun, str(main), *arguments]
