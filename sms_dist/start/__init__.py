"""The start of a rank: torchrun, deepspeed, srun or plain python runs this on every rank."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
# Set by launchers that stay as long as their ranks do: torchrun, deepspeed. A shell does not.
SIGNS_OF_A_LAUNCHER = ("TORCHELASTIC_RUN_ID", "CROSS_RANK")
LAUNCHER = "SMS_DIST_LAUNCHER"  # the process id of our own launcher
ON_REQUEST = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def end_with_launcher() -> None:
    """Have the kernel kill this process when its parent, torchrun say, dies.

    A launcher that is killed cannot end its ranks: they would go on without anybody who starts them
    again, and hold the GPUs. Call it first of all, from the main thread. Linux only.
    """
    if sys.platform != "linux" or not any(name in os.environ for name in SIGNS_OF_A_LAUNCHER):
        return
    # Only of our own launcher is it certain whether it has died before.
    parent = int(os.environ.get(LAUNCHER, os.getppid()))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run an experiment on this rank; `--help` names the options."""
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [each for each in sys.path if each != here]  # where this was started as a file
    end_with_launcher()  # first of all: what is imported next takes its time
    from sms_dist.base.process import open_screen

    open_screen()
    from sms_dist.start.rank import main

    main()
