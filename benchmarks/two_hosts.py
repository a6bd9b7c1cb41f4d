"""Two hosts on one machine, joined by a link of a given speed: network namespaces of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from turns import ENVIRONMENT, ROOT

PORT = 29533


@contextmanager
def two_hosts(mbit: float | None = None) -> Iterator[Sequence[str]]:
    """Their namespaces; OSError with the reason where there can be none. None: no limit."""
    if missing := [name for name in ("ip", "tc") if shutil.which(name) is None]:
        raise OSError(f"iproute2 is not installed: there is no {missing[0]}")
    if os.geteuid() != 0:
        raise OSError("network namespaces want root")
    names = [f"sms_bench_{os.getpid()}_{i}" for i in range(2)]
    with ExitStack() as stack:
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left behind
        stack.callback(signal.signal, signal.SIGTERM, before)
        for name in names:
            stack.callback(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        peer = ("peer", "name", "eth0", "netns", names[1])
        _run("ip", "link", "add", "name", "eth0", "netns", names[0], "type", "veth", *peer)
        for i, name in enumerate(names):
            _run("ip", "-n", name, "addr", "add", f"{_address(i)}/24", "dev", "eth0")
            _run("ip", "-n", name, "link", "set", "eth0", "up")
            if mbit is not None:
                limit = ("tbf", "rate", f"{mbit}mbit", "burst", "64kb", "latency", "400ms")
                _run("tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", *limit)
        yield names


def on_hosts(names: Sequence[str], script: str, *arguments: object) -> Any:
    """The JSON value that the first of them prints last, of a script with a rank on each."""
    processes = []
    words = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    try:
        for rank, name in enumerate(names):
            processes.append(
                subprocess.Popen(
                    ["ip", "netns", "exec", name, *words],
                    env=os.environ | _environment(rank, len(names)),
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        outputs = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise SystemExit(f"{script} failed on {[p.returncode for p in processes]}")
    return json.loads(outputs[0].splitlines()[-1])


def num_bytes_sent() -> int:
    """By the network card of this process's host, since it is there."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (fields,) = [line.split(":")[1].split() for line in lines if line.strip().startswith("eth0:")]
    return int(fields[8])


def _environment(rank: int, size: int) -> dict[str, str]:
    """What torchrun gives a rank; each has a host to itself."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": _address(0),
        "MASTER_PORT": str(PORT),
        "GLOO_SOCKET_IFNAME": "eth0",
        **ENVIRONMENT,
    }


def _address(host: int) -> str:
    return f"10.79.0.{host + 1}"


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
