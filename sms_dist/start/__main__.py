"""`torchrun -m sms_dist.start` is `torchrun launcher/main.py`; jobs start this file itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this code, wherever it starts

from sms_dist.start import main

if __name__ == "__main__":
    main()
