"""Signals that ask a run to stop: a flag, which the ranks look at between two steps."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import TYPE_CHECKING

from sms_dist.exit_status import STOPPED

if TYPE_CHECKING:
    from sms_dist.distributed.control import Control

ON_REQUEST = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def stop_before_start() -> None:
    """Until there is something to save, a rank that is asked to stop just ends."""
    for number in ON_REQUEST:
        signal.signal(number, lambda number, frame: os._exit(STOPPED))


def stop_on_signals(control: Control) -> None:
    """From now on a signal is a request; a second Ctrl-C ends the process."""

    def ask(number: int, frame: FrameType | None) -> None:
        control.request(signal.Signals(number).name)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in ON_REQUEST:
        signal.signal(number, ask)
