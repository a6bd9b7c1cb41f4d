"""Runs of configuration files, one after the other in the same process.

The argument is a JSON file: a list of {"config": YAML file, "folder": run folder, "settings":
[key.path=value, ...], "port": where the ranks meet}. What is raised names the file.
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
    print(f"{run['config']} {run['settings']}", file=sys.stderr, flush=True)
    Session.open(load(Path(run["config"]), run["settings"]), Path(run["folder"])).run()
sys.stdout.flush()
os._exit(0)  # as launcher/main.py: the interpreter's teardown may abort
