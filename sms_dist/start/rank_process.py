"""How a rank's process ends: with its launcher, when it is asked to stop, by an exception."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from sms_dist.base.exit_status import FAILED, STOPPED

if TYPE_CHECKING:
    from sms_dist.mesh.control import Control

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
# Set by launchers that stay as long as their ranks do: torchrun, deepspeed. A shell does not.
SIGNS_OF_A_LAUNCHER = ("TORCHELASTIC_RUN_ID", "CROSS_RANK")
LAUNCHER = "SMS_DIST_LAUNCHER"  # the process id of ours
ON_REQUEST = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def end_with_launcher() -> None:
    """Have the kernel kill this process when its parent, torchrun say, dies.

    A launcher that is killed cannot end its ranks: they would go on without anybody who starts them
    again, and hold the GPUs. To be called first of all, from the main thread. Linux only.
    """
    if sys.platform != "linux" or not any(name in os.environ for name in SIGNS_OF_A_LAUNCHER):
        return
    # Whether it has died before can be known for certain of our own launcher only.
    parent = int(os.environ.get(LAUNCHER, os.getppid()))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def stop_before_start() -> None:
    """End at once when asked to stop, until there is something to save."""
    for number in ON_REQUEST:
        signal.signal(number, lambda number, frame: os._exit(STOPPED))


def stop_on_signals(control: Control) -> None:
    """From now on a signal is a request, looked at between two steps; a second Ctrl-C ends the
    process."""

    def ask(number: int, frame: FrameType | None) -> None:
        control.request(signal.Signals(number).name)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in ON_REQUEST:
        signal.signal(number, ask)


def report_exceptions(control: Control) -> None:
    """From now on an exception that nobody catches is reported to the other ranks and ends this
    one, without the interpreter's teardown, which might hang."""
    from sms_dist.mesh.watch.judge import is_consequence

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
