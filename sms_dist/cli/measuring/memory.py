"""The most memory that this process has had for a while: of the GPU if it trains on one."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import torch

OWN = Path("/proc/self")
START_ANEW = "5"  # written to clear_refs (man 5 proc)


def start_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):  # a kernel without it tells the most of all time
        (OWN / "clear_refs").write_text(START_ANEW)


def peak(device: torch.device) -> int:
    """Bytes since the last start."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) + _context_bytes(device)
    found = re.search(r"^VmHWM:\s+(\d+) kB", (OWN / "status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _context_bytes(device: torch.device) -> int:
    """Of the driver and its libraries, where this process has the GPU to itself."""
    free, total = torch.cuda.mem_get_info(device)
    return max(0, total - free - torch.cuda.memory_reserved(device))
