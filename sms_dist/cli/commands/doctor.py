"""sms-dist doctor: is this machine fit to train on?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sms_dist.cli.commands.options import config_options


@click.command(epilog="Example: sms-dist doctor --config configs/digits_sms.yaml")
@config_options
def doctor(config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Check that this machine is fit to train on.

    Versions, devices, communication, the folder of the runs; exit status 1 if something is broken.
    """
    from sms_dist.cli.examination import examine
    from sms_dist.config.file import load

    is_fit = True
    for finding in examine(load(config_file, settings)):
        is_fit = is_fit and finding.is_ok
        click.echo(f"{'ok     ' if finding.is_ok else 'problem'}  {finding.text}")
    sys.exit(0 if is_fit else 1)
