"""Three ranks that differ, without a launcher: each ends as soon as it is refused.

Prints their exit statuses.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from datetime import timedelta

import torch.distributed as dist
from launching import free_ports

from sms_dist.mesh.handshake import compare

RANKS = range(3)


def live(rank: int) -> None:
    store, _, _ = next(dist.rendezvous("env://", rank, len(RANKS)))
    if rank == 2:  # it has said what it knows, and is slow to hear what came of it
        store.set("facts of-2", json.dumps({"torch": "2"}))
        store.set("rank 2", "of-2 host")
        time.sleep(1)
    try:
        compare({"torch": str(rank)}, store, rank, len(RANKS), timedelta(seconds=60))
    except ValueError:
        os._exit(2)


def forked(rank: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            live(rank)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(*free_ports(1))}
children = [forked(rank) for rank in RANKS]
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
sys.stdout.flush()
os._exit(0)
