"""The program that a launcher (torchrun, deepspeed, srun or plain python) runs on every rank.

torchrun --nnodes=4 --nproc-per-node=8 launcher/main.py --config configs/X.yaml
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # runs from a clone, not installed

from sms_dist.start import main

if __name__ == "__main__":
    main()
