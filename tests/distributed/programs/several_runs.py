"""Several runs one after the other in the same processes, because a start costs more than a run.

The argument is a JSON file: a list of {"folder": run folder, "settings": [key.path=value, ...]}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from launcher.session import Session
from sms_dist.config_file import load

for number, run in enumerate(json.loads(Path(sys.argv[1]).read_text())):
    os.environ["TORCHELASTIC_RESTART_COUNT"] = str(number)  # else the ranks meet at old addresses
    Session.open(load(None, run["settings"]), Path(run["folder"])).run()
