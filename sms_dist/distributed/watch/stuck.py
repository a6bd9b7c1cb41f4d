"""Where the main thread is at the moment, for telling who hangs from who waits for him."""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch

INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
TORCH = Path(torch.__file__).parent
# The last Python code before the library that waits for the other ranks.
WAITING = tuple(str(TORCH / name) for name in ("distributed", "autograd"))


def where() -> tuple[str, bool]:
    """Lines of code, and whether they wait for other ranks.

    The innermost line that is ours or a user's, and the innermost of all if that is another one.
    A rank that waits on a GPU for the others looks as if it hung in the line that asks for the
    result.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    frames = list(_outwards(frame))
    if not frames:
        return "an unknown place", False
    innermost = frames[0]
    own = next((f for f in frames if not f.f_code.co_filename.startswith(INSTALLED)), innermost)
    text = _line(own) if own is innermost else f"{_line(own)}, in {_line(innermost)}"
    return text, innermost.f_code.co_filename.startswith(WAITING)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _line(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    name = "/".join(path.parts[-2:])
    return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
