"""torchrun, but where ranks end on purpose its exit status is theirs, and stopping takes its time.

torchrun answers a signal by ending its ranks within half a minute, with status 1. Here the signal
is handed on to the ranks, which save what they have and end with 75; a second one ends them hard.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from torch.distributed import run
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import api

from launcher.failures import describe
from launcher.orphans import LAUNCHER
from launcher.signals import ON_REQUEST
from sms_dist.exit_status import BAD_INPUT, FAILED, STOPPED

ON_PURPOSE = (BAD_INPUT, STOPPED)  # the rank has said what there is to say
QUIET = "torch.distributed.elastic.multiprocessing.api"  # how ranks ended is told here, in a line
OTHERS = "SIGQUIT"  # what torchrun may go on to handle by itself


class Agent(LocalElasticAgent):
    """--max-restarts is for ranks that crashed, not for those that have ended on purpose."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        # The first: when a rank crashes, the agent asks the others to stop, and they do.
        first = min(result.failures.values(), key=lambda failure: failure.timestamp, default=None)
        if first is not None and first.exitcode in ON_PURPOSE:
            self._remaining_restarts = 0
        return result


def main() -> None:
    setattr(api, "LocalElasticAgent", Agent)  # noqa: B010  (torchrun has no option for it)
    os.environ[LAUNCHER] = str(os.getpid())
    # Else a host that comes back waits for an address that nobody tells any more (torch 2.13).
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    logging.getLogger(QUIET).setLevel(logging.CRITICAL)
    for number in ON_REQUEST:
        signal.signal(number, _hand_on)
    try:
        run.main(["--signals-to-handle", OTHERS, *sys.argv[1:]])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode in ON_PURPOSE:
            sys.exit(failure.exitcode)
        print(f"error: {describe(rank, failure)}", file=sys.stderr)
        sys.exit(FAILED)


def _hand_on(number: int, frame: FrameType | None) -> None:
    for child in _children():
        with suppress(ProcessLookupError):
            os.kill(child, number)
    for again in ON_REQUEST:
        signal.signal(again, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """torchrun's own way: it ends the ranks and itself."""
    raise SignalException(f"{os.getpid()} got signal {number}", signal.Signals(number))


def _children() -> list[int]:
    """The processes that this one has started."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(word) for path in lists for word in path.read_text().split()]


if __name__ == "__main__":
    main()
