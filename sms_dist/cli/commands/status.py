"""sms-dist status: how runs are, from their folders."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sms_dist.base.plain import path
from sms_dist.base.process import DONE, FAILED, STOPPED


@click.command(epilog="Example: sms-dist status runs/digits_sms --watch")
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=path)
@click.option("--json", "is_json", is_flag=True, help="Print JSON; of several runs a list.")
@click.option("--watch", "is_watching", is_flag=True, help="Look again until all have ended.")
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between two looks.",
)
def status(folders: tuple[Path, ...], is_json: bool, is_watching: bool, every: float) -> None:
    """Show the state of runs.

    RUN is a run folder, or a folder of several, of which each gets a line. Phase, candidates,
    groups, time left, last events, faults, starts. Only files are read, on any host that sees them;
    ranks at work are not disturbed.

    Exit status: 0 done or running (also: waiting in a queue, not started yet), 1 failed or lost, 2
    there is no such run, 75 stopped on request and resumable. Of several runs: 1 if any failed,
    else 75 if any was stopped.
    """
    from sms_dist.cli.status import EXIT, run_folders
    from sms_dist.cli.status_screen import show

    runs, is_one = run_folders(folders)
    last = show(runs, is_one, is_json, every if is_watching else None)
    statuses = {EXIT.get(each.state, DONE) for each in last}
    sys.exit(next(code for code in (FAILED, STOPPED, DONE) if code in statuses))
