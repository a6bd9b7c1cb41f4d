"""A rank that differs from the others, without a launcher: it ends as soon as it is refused.

The argument is its rank, of three; the address of the store is in the environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

import torch.distributed as dist

from sms_dist.mesh.handshake import compare

rank = int(sys.argv[1])
store, _, _ = next(dist.rendezvous("env://", rank, 3))
if rank == 2:  # it has said what it knows, and is slow to hear what came of it
    store.set("facts of-2", json.dumps({"torch": "2"}))
    store.set("rank 2", "of-2 host")
    time.sleep(1)
try:
    compare({"torch": str(rank)}, store, rank, 3, timedelta(seconds=60))
except ValueError:
    os._exit(2)
