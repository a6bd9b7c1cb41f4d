"""What comes of meetings, on every rank: written as JSON to the folder that is the argument."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from sms_dist.mesh import topology
from sms_dist.mesh.control import Stopped

folder = Path(sys.argv[1])
mesh = topology.start()
rank, control, found = mesh.world.rank, mesh.control, {}
control.listen(folder / "stop")


def meet(name: str) -> None:
    try:
        control.meet()
        found[name] = "met"
    except Stopped:
        found[name] = "stopped"


meet("all come")
time.sleep(0.3 * rank)
meet("some are late")
if rank == 3:  # who does not come, and never will
    time.sleep(1.0)
    control.request("SIGTERM")
else:
    meet("one asks to stop")
found["why"] = control.leave()
(folder / f"{rank}.json").write_text(json.dumps(found))
topology.stop(mesh)
sys.stdout.flush()
os._exit(0)
