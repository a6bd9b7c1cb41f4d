"""torchrun with the exit status of ranks that end on purpose, and with time to stop.

torchrun starts ranks again whatever they ended with, and answers a signal by ending them within
half a minute, with status 1; it has no options for that. Here ranks that ended on purpose are not
started again, and a signal is handed on to the ranks, which save what they have and end with 75; a
second one ends them hard.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

from torch.distributed import run
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher import api

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this code, wherever it starts

from sms_dist.base.process import BAD_INPUT, FAILED, STOPPED, open_screen
from sms_dist.start import LAUNCHER, ON_REQUEST

ON_PURPOSE = (BAD_INPUT, STOPPED)  # the rank has reported the reason
QUIET = "torch.distributed.elastic.multiprocessing.api"  # this file reports how ranks ended
OTHERS = "SIGQUIT"  # what torchrun may go on to handle by itself
CGROUPS = Path("/sys/fs/cgroup")


class Agent(LocalElasticAgent):
    """--max-restarts is for ranks that crashed, not for those that have ended on purpose."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """Look after the ranks; torch documents this as the place to extend an agent."""
        result: RunResult = super()._monitor_workers(worker_group)
        # The first: when a rank crashes, the agent asks the others to stop, and they do.
        first = min(result.failures.values(), key=lambda failure: failure.timestamp, default=None)
        if first is not None and first.exitcode in ON_PURPOSE:
            raise ChildFailedError("ranks", result.failures)
        return result


def main() -> None:
    """Start the ranks of this host and end with their exit status."""
    open_screen()
    api.LocalElasticAgent = Agent  # type: ignore[attr-defined]
    os.environ[LAUNCHER] = str(os.getpid())
    # Else a host that comes back waits for an address that is not sent any more (torch 2.13).
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
    for path in Path("/proc/self/task").glob("*/children"):
        for child in path.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)
    for again in ON_REQUEST:
        signal.signal(again, _end)


def _end(number: int, frame: FrameType | None) -> None:
    """End the ranks and the launcher, as torchrun does."""
    raise SignalException(f"{os.getpid()} got signal {number}", signal.Signals(number))


def describe(rank: int, failure: ProcessFailure) -> str:
    """Return `rank 1 on host a (pid 123) was killed by SIGKILL`, and a guess why."""
    code = failure.exitcode
    by_signal = f"was killed by {failure.signal_name()}"
    end = by_signal if code < 0 else f"ended with status {code}"
    hint = out_of_memory(failure.pid) if code == -signal.SIGKILL else None
    line = f"rank {rank} on {socket.gethostname()} (pid {failure.pid}) {end}"
    return f"{line} ({hint})" if hint else line


def out_of_memory(pid: int) -> str | None:
    """Return the kernel's record of a kill for want of memory, where it may be read."""
    if re.search(rf"[Kk]illed process {pid}\b", _kernel_log()):
        return "out of memory, says the kernel"
    kills = sum(map(_kills, _cgroup_files()))
    return f"out of memory? This job has lost {kills} processes to that" if kills else None


def _kernel_log() -> str:
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # not for everybody
        return ""
    lines: list[bytes] = []
    try:
        while True:
            lines.append(os.read(log, 8192))  # one record a call
    except OSError:  # no more of them
        return b"".join(lines).decode(errors="replace")
    finally:
        os.close(log)


def _cgroup_files() -> list[Path]:
    """Return the memory files of this process' control group, version 2 and 1."""
    files = [CGROUPS / "memory.events", CGROUPS / "memory" / "memory.oom_control"]  # in a container
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files.append(CGROUPS / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control")
    return list(dict.fromkeys(files))


def _kills(file: Path) -> int:
    try:
        match = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0


if __name__ == "__main__":
    main()
