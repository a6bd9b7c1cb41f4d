"""The command of a rank: its options, how it stops, how it reports errors, its exit status."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, NoReturn

import click

from sms_dist.base.plain import path, printable
from sms_dist.base.process import BAD_INPUT, DONE, FAILED, STOPPED
from sms_dist.start import ON_REQUEST

if TYPE_CHECKING:
    from sms_dist.mesh.control import Control


def stop_before_start() -> None:
    """End at once when asked to stop, until there is something to save."""
    for number in ON_REQUEST:
        signal.signal(number, lambda number, frame: os._exit(STOPPED))


def stop_on_signals(control: Control) -> None:
    """Turn signals into requests to stop between two steps; a second Ctrl-C ends the process."""

    def ask(number: int, frame: FrameType | None) -> None:
        control.request(signal.Signals(number).name)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in ON_REQUEST:
        signal.signal(number, ask)


def report_exceptions(control: Control) -> None:
    """Report uncaught exceptions to the other ranks and end this one.

    Without the interpreter's teardown, which might hang.
    """
    from sms_dist.mesh.beats import is_consequence

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        is_alone = control.watchdog is None or control.is_closed  # nobody else will explain it
        if is_alone or not is_consequence(error) or "SMS_DIST_TRACEBACK" in os.environ:
            traceback.print_exception(kind, error, trace)
        if control.watchdog is not None and not control.is_closed:
            control.watchdog.explain(error)
            control.watchdog.stop()
        sys.stderr.flush()
        os._exit(FAILED)

    sys.excepthook = hook


@click.command(epilog="Without --config the embedded first experiment runs: a test of a cluster.")
@click.option("--config", "config_file", type=path, help="YAML file; only what differs.")
@click.option("--set", "settings", multiple=True, metavar="KEY.PATH=VALUE", help="Override a key.")
@click.option("--run-dir", type=path, help="Run folder (default: records.root/name).")
@click.option("--accept-changes", "accepts_changes", is_flag=True, help="Go on with changed files.")
@click.option("--local_rank", "--local-rank", type=int, hidden=True)  # the deepspeed launcher's
def main(
    config_file: Path | None,
    settings: tuple[str, ...],
    run_dir: Path | None,
    accepts_changes: bool,
    local_rank: int | None,
) -> None:
    """Run an experiment; started again with the same run folder, go on where it stopped."""
    from sms_dist.base.lookup import search_beside
    from sms_dist.config.file import load

    stop_before_start()
    if config_file is not None:
        search_beside(config_file)
    try:
        config = load(config_file, settings)
        from sms_dist.start.session import Session  # torch: only once the configuration is good

        session = Session.open(
            config, run_dir or Path(config.records.root) / config.name, accepts_changes
        )
    except ValueError as error:
        _refuse(str(error))
    except OSError as error:  # no permission, a name that is too long
        if error.filename is None:
            raise
        _refuse(f"{error.filename}: {error.strerror}")
    from sms_dist.mesh.control import Stopped

    try:
        session.run()
    except Stopped as stopped:
        _stop(stopped, session.context.mesh.control)
    except ValueError as error:
        _fail(error, session.context.mesh.control)
    _leave(DONE)


def _stop(stopped: Exception, control: Control) -> NoReturn:
    control.close()
    if control.lost is not None:  # the rank that found it has reported it
        _leave(FAILED)
    if os.environ.get("RANK", "0") == "0":
        reason = printable(str(stopped))
        print(f"stopped ({reason}): give the same command again to go on", file=sys.stderr)
    _leave(STOPPED)


def _fail(error: ValueError, control: Control) -> NoReturn:
    """End a run that cannot go on before people mend something: mostly the same on all ranks."""
    control.fail(str(error))
    rank = os.environ.get("RANK", "0")
    if "SMS_DIST_TRACEBACK" in os.environ:
        traceback.print_exc()
    if rank != "0":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of the launcher, when rank 0 has ended
        time.sleep(5)  # rank 0 says it for all, if it has come here too
    place = "" if rank == "0" else f" (rank {rank})"
    print(f"error{place}: {printable(str(error))}", file=sys.stderr)
    _leave(FAILED)


def _refuse(message: str) -> NoReturn:
    """Print a line for each mistake, on rank 0, and end.

    The others wait a little, since the launcher stops all ranks when one ends; they print mistakes
    that are theirs alone.
    """
    rank = os.environ.get("RANK", "0")
    if rank != "0":
        time.sleep(5)
    place = "" if rank == "0" else f" (rank {rank})"
    for line in message.splitlines():
        print(f"error{place}: {printable(line)}", file=sys.stderr)
    _leave(BAD_INPUT)


def _leave(status: int) -> NoReturn:
    """End this rank without the interpreter's teardown.

    It aborts now and then when it comes upon the threads of a process group: a finished run would
    count as failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
