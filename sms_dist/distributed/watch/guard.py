"""A small process beside a rank that ends it when it cannot end itself.

That is so when all of it is stopped (SIGSTOP), or stuck in C code that keeps Python's lock: then no
thread of the rank can act, the ranks that wait for it end, and its launcher would wait for ever.
Run as a script, with the numbers of the rank's process and of looks; signs of life come by stdin.
"""

from __future__ import annotations

import os
import select
import signal
import sys

SECONDS_BETWEEN_LOOKS = 1.0
LEFT = b"q"
# Sent to all processes of a group at once; the rank may still have to save its state.
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(rank: int, pid: int, patience: int) -> None:
    """Count looks, not time: a guard that was stopped itself has not looked."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    looks = 0
    while looks < patience and os.getppid() == pid:
        ready, _, _ = select.select([0], [], [], SECONDS_BETWEEN_LOOKS)
        said = os.read(0, 4096) if ready else None
        if said == b"" or (said and LEFT in said):
            return
        looks = 0 if said else looks + 1
    if looks >= patience and os.getppid() == pid:
        text = f"error: rank {rank} (pid {pid}) is stopped or stuck for good: it is ended\n"
        os.kill(pid, signal.SIGKILL)
        os.write(2, text.encode())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
