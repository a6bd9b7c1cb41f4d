"""The `sms-dist` command: its verbs; a mistake in what it is given is one line on stderr."""

from __future__ import annotations

import errno
import sys
from typing import Any, NoReturn

import click

from sms_dist import __version__
from sms_dist.base.plain import printable
from sms_dist.base.process import BAD_INPUT, FAILED, lost_output, open_screen
from sms_dist.cli.commands.data import data
from sms_dist.cli.commands.doctor import doctor
from sms_dist.cli.commands.export import export
from sms_dist.cli.commands.measure import measure
from sms_dist.cli.commands.plan import plan
from sms_dist.cli.commands.report import report
from sms_dist.cli.commands.run import run
from sms_dist.cli.commands.samples import samples
from sms_dist.cli.commands.status import status
from sms_dist.cli.commands.submit import submit
from sms_dist.cli.commands.sweep import sweep


class Verbs(click.Group):
    """A group that prints a ValueError of a verb as one line on stderr, with exit status 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ValueError as error:
            _refuse(str(error))
        except OSError as error:  # no permission, a name that is too long
            if error.filename is None:
                raise
            _refuse(f"{error.filename}: {(error.strerror or str(error)).lower()}")


def _refuse(message: str) -> NoReturn:
    click.echo(f"error: {printable(message)}", err=True)
    sys.exit(BAD_INPUT)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: sms-dist plan --config configs/digits_sms.yaml",
)
@click.version_option(__version__, prog_name="sms-dist")
def cli() -> None:
    """Sparse Model Soups: prune, retrain m copies side by side, average them, prune harder."""


for verb in (plan, measure, run, sweep, submit, status, report, samples, export, doctor, data):
    cli.add_command(verb)


ONLY_PRINT = ("plan", "status", "report", "samples", "doctor")  # others end as what they did ends


def main() -> None:
    """Entry point: the screen decides the exit status only of verbs that do nothing but print."""
    open_screen()
    try:
        cli()
    except SystemExit as end:
        lost = lost_output()
        if lost is None or lost.errno == errno.EPIPE or end.code or sys.argv[1] not in ONLY_PRINT:
            raise
        print(f"error: standard output could not be written: {lost.strerror}", file=sys.stderr)
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
