"""Is an exception only the consequence of another rank's end?"""

from __future__ import annotations

import re

import torch.distributed as dist

# What gloo, NCCL and the store say, as RuntimeError or DistError, when the other side is gone.
CONSEQUENCE = re.compile(
    r"connection (was )?(closed|reset|refused|aborted|lost)|broken pipe|socket closed|"
    r"read error|timed out waiting|application timeout|wait timeout|failed to recv|"
    r"remote process|communicator was aborted|nccl.*(remote|system|unhandled)|"
    r"connect(full)?mesh failed",
    re.IGNORECASE,
)


def is_consequence(error: BaseException) -> bool:
    """Did another rank's end bring this about, as far as the text can tell?"""
    if isinstance(error, dist.DistNetworkError | dist.DistStoreError):
        return True
    from_torch = isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError)
    return from_torch and CONSEQUENCE.search(str(error)) is not None


def last_line(error: BaseException) -> str:
    """KeyError: 'x', as at the end of a traceback."""
    lines = str(error).strip().splitlines()
    name = type(error).__name__
    return f"{name}: {lines[0][:400]}" if lines else name
