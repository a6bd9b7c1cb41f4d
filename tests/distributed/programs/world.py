"""A program on some ranks of this host: forks of this process, which has paid for the imports.

python world.py NUM_RANKS PROGRAM [ARGUMENT ...], in place of torchrun --standalone, which takes
several seconds more of a core for each rank. What torchrun itself does with a run is tested
elsewhere. As under torchrun, the first rank that fails ends the others.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"  # before deepspeed is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch._dynamo  # noqa: F401
import torch.distributed as dist
from launching import free_ports

import sms_dist.start.session  # noqa: F401


def run(rank: int, num_ranks: int, port: int, words: list[str]) -> None:
    """The life of a rank."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "world",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # that of `keep_store`
    }
    sys.argv, sys.path[0] = words, str(Path(words[0]).parent)
    runpy.run_path(words[0], run_name="__main__")


def keep_store(port: int) -> None:
    store = dist.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    while store is not None:
        signal.pause()


def forked(life, *arguments) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        life(*arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(num_ranks: int, words: list[str]) -> int:
    (port,) = free_ports(1)
    store = forked(keep_store, port)
    ranks = {forked(run, rank, num_ranks, port, words) for rank in range(num_ranks)}
    failure = 0
    while ranks:
        pid, status = os.wait()
        ranks.discard(pid)
        if failure := failure or os.waitstatus_to_exitcode(status):
            for rank in ranks:
                with suppress(ProcessLookupError):
                    os.kill(rank, signal.SIGTERM)
    os.kill(store, signal.SIGKILL)
    return int(failure != 0)


sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
