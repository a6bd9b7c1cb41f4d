"""Hosts on one machine: namespaces for network, names and processes, joined by a bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from launching import ROOT

NAMED = 'echo "$0" > /proc/sys/kernel/hostname; exec "$@"'


class Host:
    """Sees the others as 10.78.0.1, 10.78.0.2 ..., and nothing of their processes."""

    def __init__(self, number: int, network: str, switch: str) -> None:
        self.number, self.name, self.address = number, f"host{number}", f"10.78.0.{number}"
        self._network, self._switch = network, switch
        self.process: subprocess.Popen | None = None

    def start(self, command, log: Path, **environment: str) -> subprocess.Popen:
        """The command becomes the host's first process: when it ends, all of the host do."""
        settings = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "GLOO_SOCKET_IFNAME": "eth0",
            **environment,
        }
        apart = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        own = [*apart, "sh", "-c", NAMED, self.name, *map(str, command)]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self._network, *own],
                env=settings,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def kill(self) -> None:
        """All of its processes, by SIGKILL."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def cut(self) -> None:
        """Pull the cable."""
        _ip("-n", self._switch, "link", "set", f"port{self.number}", "down")

    def join(self) -> None:
        _ip("-n", self._switch, "link", "set", f"port{self.number}", "up")


@contextmanager
def network(number: int):
    """So many hosts; OSError with the reason where that is impossible."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        raise OSError("iproute2 or util-linux is not installed")
    switch, *names = (f"sms{os.getpid()}h{i}" for i in range(number + 1))
    hosts = [Host(i, name, switch) for i, name in enumerate(names, 1)]
    with ExitStack() as stack:
        stack.callback(_remove, [*names, switch])
        try:
            _ip("netns", "add", switch)
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode().strip()
            raise OSError(f"no network namespaces here: {reason}") from None
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for i, name in enumerate(names, 1):
            _plug_in(name, f"10.78.0.{i}", switch, f"port{i}")
        stack.callback(lambda: [host.kill() for host in hosts])
        yield hosts


def torchrun(*options: str, script: Path, arguments) -> list[str]:
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *options,
        str(script),
        *map(str, arguments),
    ]


def _plug_in(name: str, address: str, switch: str, port: str) -> None:
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")
    peer = ("peer", "name", port, "netns", switch)
    _ip("link", "add", "name", "eth0", "netns", name, "type", "veth", *peer)
    _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    _ip("-n", switch, "link", "set", port, "master", "br0")
    _ip("-n", switch, "link", "set", port, "up")


def _remove(names: list[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
