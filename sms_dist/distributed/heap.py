"""The C library's heap of a process that trains on a CPU."""

from __future__ import annotations

import ctypes
import os

# glibc's numbers for mallopt (man 3 mallopt), and variables with which people set the same.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SET_BY_HAND = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
_NEVER = 2**31 - 1
_LARGEST = 32 << 20  # bytes; glibc takes no higher limit


def keep_freed_memory() -> bool:
    """Freed tensors of up to 32 MiB stay with the process: the next step's lie in their memory.

    By default glibc gives most of them back after each step, and the kernel has to clear fresh
    pages for the next one: 7 to 15 % of a ResNet-20's step. False where it was not done: with
    another C library, or with a variable of the environment that says something else.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _SET_BY_HAND):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _NEVER))
