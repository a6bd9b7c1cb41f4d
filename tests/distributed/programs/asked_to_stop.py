"""On its first start rank 1 comes to an end, while rank 0 is still getting ready."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from sms_dist.start.rank import stop_before_start

END = {"killed": -signal.SIGKILL, "failed": 1, "bad_input": 2, "stopped": 75}


def main(folder: Path, how: str) -> None:
    rank, start = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    (folder / f"start_{start}_rank_{rank}").touch()
    if start != "0":
        return
    stop_before_start()
    if rank == "0":
        (folder / "ready").touch()
        time.sleep(60)
    while not (folder / "ready").exists():
        time.sleep(0.01)
    if END[how] < 0:
        os.kill(os.getpid(), -END[how])
    os._exit(END[how])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
