"""What a rank does when an exception ends it: it tells the other ranks, and does not hang."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

from sms_dist.distributed.control import Control
from sms_dist.distributed.watch.broken import is_consequence
from sms_dist.exit_status import FAILED


def speak_last_words(control: Control) -> None:
    """From now on an exception that nobody catches is told to the other ranks."""

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
