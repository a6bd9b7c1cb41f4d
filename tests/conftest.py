"""What holds for every test."""

import os

# Before torch is imported: several threads for tiny tensors are ten times slower on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
