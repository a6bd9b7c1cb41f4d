"""Files of a run at work, read without trust: what is missing or damaged is told, never raised."""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sms_dist import plain
from sms_dist.config_file import one_line
from sms_dist.folders import entries
from sms_dist.plain import is_file, read

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 1 << 26  # of a file of a run
BLOCK = 512  # bytes, in which stat counts


@dataclass(frozen=True)
class Clock:
    """The time by the file system's clock, to which the times of files are compared."""

    now: float  # seconds since 1970
    is_exact: bool  # False: this host's clock, because nothing may be made there


@dataclass(frozen=True)
class Reader:
    """Reads below a folder; `damaged` collects a line for each file that makes no sense."""

    root: Path
    damaged: list[str] = field(default_factory=list)

    def json(self, path: Path, model: type[Model]) -> Model | None:
        """None where there is no such file, or it is damaged."""
        content = self._bytes(path)
        if content is None:
            return None
        try:
            return model.model_validate(_parsed(content))
        except ValidationError as error:
            self.tell(path, one_line(error, model))
        except ValueError as error:
            self.tell(path, str(error))
        return None

    def json_lines(self, path: Path) -> list[dict[str, Any]]:
        """The objects, one a line; a line that is still being written is left out."""
        *lines, rest = (self._bytes(path) or b"").split(b"\n")
        found = [_object(line) for line in lines]
        bad = [str(number) for number, value in enumerate(found, 1) if value is None]
        if bad:
            more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
            self.tell(path, f"no JSON object in line {', '.join(bad[:3])}{more}")
        return [value for value in [*found, _object(rest)] if value is not None]

    def time(self, path: Path) -> float | None:
        """When a file was last written, by the file system's clock; None where there is none.

        It is opened, because a network file system then asks its server.
        """
        try:
            with path.open("rb") as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:
            return None

    def entries(self, folder: Path, pattern: str = "*") -> list[Path]:
        """What is in a folder, sorted; nothing where it is not there, or cannot be listed."""
        try:
            return entries(folder, pattern)
        except OSError as error:
            self.tell(folder, f"cannot be listed: {error.strerror or error}")
            return []

    def tell(self, path: Path, problem: str) -> None:
        self.damaged.append(f"{path.relative_to(self.root)}: {problem}")

    def _bytes(self, path: Path) -> bytes | None:
        if not is_file(path):
            return None
        try:
            return read(path, MAX_BYTES, "a file of a run", place="it")
        except ValueError as error:
            if is_file(path):  # else it went away after it was seen
                self.tell(path, str(error))
            return None


def clock(folder: Path) -> Clock:
    """The time on the file system, as that of a file that is made there and has no name.

    Hosts and file servers rarely have the same time.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".status_") as file:
            return Clock(os.fstat(file.fileno()).st_mtime, is_exact=True)
    except OSError:
        return Clock(time.time(), is_exact=False)


def disk_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk; those that go meanwhile do not count."""
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                found = os.lstat(os.path.join(root, name))
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield found.st_blocks * BLOCK


def _parsed(content: bytes) -> Any:
    """ValueError, in few words, where it is not JSON."""
    try:
        return plain.parse_json(content, "it")
    except ValueError:
        raise ValueError("not JSON" if content else "empty") from None


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = _parsed(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
