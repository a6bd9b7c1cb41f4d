"""Memory that was freed goes back to the system, so that using it again is seen."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """What the allocator keeps for later; glibc only, elsewhere nothing happens."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
