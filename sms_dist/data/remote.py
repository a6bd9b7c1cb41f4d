"""Shards that are addressed by URL or by a command: opened only where the configuration allows."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath
from typing import BinaryIO, cast
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "gs")
PIPE = "pipe:"


def is_remote(shard: str) -> bool:
    """Whether the name of a shard is a URL or a `pipe:` command."""
    return "://" in shard or shard.startswith(PIPE)


def check(shard: str, is_allowed: bool) -> None:
    """ValueError unless it may be opened, and can be."""
    if not is_allowed:
        runs = "a command that runs in a shell" if shard.startswith(PIPE) else "on another host"
        raise ValueError(
            f"{shown(shard)} is {runs}; if you trust who wrote it, set data.remote=true"
        )
    scheme = shard.partition(":")[0]
    if scheme not in (*SCHEMES, "pipe"):
        raise ValueError(
            f"{shown(shard)} begins with {scheme}:, which is not known; legal:"
            f" {', '.join(SCHEMES)} and pipe, e.g. pipe:aws s3 cp s3://bucket/shard.tar -"
        )


def shown(shard: str) -> str:
    """A name to print, without passwords and signatures."""
    if shard.startswith(PIPE):
        return f"{PIPE}{shard.removeprefix(PIPE).partition(' ')[0]} ..."
    url = urlsplit(shard)
    return f"{url.scheme}://{url.hostname}{url.path}"


def file_name(shard: str) -> str:
    """A name for its copy."""
    words = shlex.split(shard) if shard.startswith(PIPE) else [urlsplit(shard).path]
    names = [PurePosixPath(word).name for word in words]
    return next((name for name in names if ".tar" in name), "shard.tar")


def opened(shard: str) -> BinaryIO:
    """A stream of its bytes; OSError at its end if the transfer or the command failed."""
    from webdataset.gopen import gopen

    return cast(BinaryIO, gopen(shard))
