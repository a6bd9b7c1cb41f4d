"""Several runs one after the other in the same processes, because a start costs more than a run.

The argument is a JSON file: a list of {"folder": run folder, "settings": [key.path=value, ...],
"port": where the ranks meet}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from sms_dist.config.file import load
from sms_dist.start.session import Session

# Each run has a meeting place of its own: what the last one left at torchrun's would be in its way.
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
for run in json.loads(Path(sys.argv[1]).read_text()):
    os.environ["MASTER_PORT"] = str(run["port"])
    Session.open(load(None, run["settings"]), Path(run["folder"])).run()
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
