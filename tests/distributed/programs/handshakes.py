"""Handshakes between ranks of which some differ, one after the other on one store.

The arguments are a folder for data and a file, which gets a list of what each rank found: name of
the handshake -> its complaint, null if there was none.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from sms_dist.config import file as config_file
from sms_dist.experiment.facts import facts
from sms_dist.mesh.handshake import compare

folder, file = Path(sys.argv[1]), Path(sys.argv[2])
store, rank, size = next(dist.rendezvous("env://"))
SAME = {"torch": "2.13.0", "device": "cpu"}
LONG, SHORT = 60.0, 2.0  # seconds


def greeting(name: str, mine: dict[str, str], seconds: float = LONG) -> str | None:
    own = dist.PrefixStore(name, store)
    try:
        compare(mine, own, rank, size, timedelta(seconds=seconds))
    except ValueError as error:
        return str(error)
    return None


def of_a_run() -> dict[str, str]:
    """The last rank is given other settings, and its data have another index."""
    is_odd = rank == size - 1
    mine = folder / f"data_{rank}"
    mine.mkdir(parents=True)
    (mine / "index.json").write_text("odd" if is_odd else "same")
    (mine / f"cache_of_{rank}").touch()  # does not count where there is an index
    settings = [f"data.workers={rank}", f"data.batch_size={32 if is_odd else 64}"]
    config = config_file.load(None, settings)
    data = config.data.model_copy(update={"path": str(mine)})
    found = facts(config.model_copy(update={"data": data}))
    shutil.rmtree(mine)
    return {name: fact for name, fact in found.items() if name != "key data.path"}


found = {
    "same": greeting("same", SAME),
    "one": greeting("one", SAME | ({"torch": "2.12.1"} if rank == 2 else {})),
    "two": greeting("two", SAME | ({"torch": f"2.{rank}", "device": "cuda"} if rank else {})),
    "run": greeting("run", of_a_run()),
}
if rank == 0:
    time.sleep(2 * SHORT)  # the others wait for as long again
found["late"] = greeting("late", SAME, seconds=4 * SHORT)
if rank != 3:
    found["missing"] = greeting("missing", SAME | {"torch": str(rank)}, SHORT)
if rank != 0:
    found["first missing"] = greeting("first missing", SAME, SHORT)
found["after"] = greeting("after", SAME)

store.set(f"found {rank}", json.dumps(found))
everyone = [json.loads(store.get(f"found {each}")) for each in range(size)]
if rank == 0:
    file.write_text(json.dumps(everyone))
store.add("written", 1)
while store.add("written", 0) < size:  # whoever holds the store goes last
    time.sleep(0.01)
sys.stdout.flush()
os._exit(0)
