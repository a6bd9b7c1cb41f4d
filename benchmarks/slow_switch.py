"""A switch between network namespaces whose frames are late, as over a long thin line.

In Python, on TAP devices: `tc netem` would do it, but is not in every kernel, and little travels
while groups train.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

TUN = "/dev/net/tun"
TUNSETIFF = 0x400454CA  # linux/if_tun.h, as are the flags
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
MTU = 1500
MOST = 4096  # frames that wait; more are lost, as in any switch
TURN = 0.02  # seconds, at most, until a change is noticed


class Switch(threading.Thread):
    """Hosts 0, 1, ...: one namespace each. `delay` and `rate` may change while it works."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(daemon=True, name="switch")
        self.delay = 0.0  # seconds that a frame is under way
        self.rate: float | None = None  # bits per second that leave a host (None: any)
        self.sent = [0] * len(names)  # bytes that each host has sent
        self._taps = [_tap(name, host) for host, name in enumerate(names)]
        self._waiting: list[tuple[float, int, int, bytes]] = []  # when, number, from whom, what
        self._free = [0.0] * len(names)  # when each host's line has room for the next frame
        self._number = 0
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.is_set():
            ready, _, _ = select.select(self._taps, [], [], self._patience())
            for tap in ready:
                self._take(self._taps.index(tap), os.read(tap, 2 * MTU))
            while self._waiting and self._waiting[0][0] <= time.monotonic():
                _, _, host, frame = heapq.heappop(self._waiting)
                self._give(host, frame)

    def stop(self) -> None:
        self._is_over.set()
        self.join()
        for tap in self._taps:
            os.close(tap)

    def _patience(self) -> float:
        if not self._waiting:
            return TURN
        return min(TURN, max(0.0, self._waiting[0][0] - time.monotonic()))

    def _take(self, host: int, frame: bytes) -> None:
        self.sent[host] += len(frame)
        if len(self._waiting) >= MOST:
            return
        passing = 8 * len(frame) / self.rate if self.rate else 0.0
        self._free[host] = max(time.monotonic(), self._free[host]) + passing
        self._number += 1  # frames of equal time stay in order
        entry = (self._free[host] + self.delay, self._number, host, frame)
        heapq.heappush(self._waiting, entry)

    def _give(self, sender: int, frame: bytes) -> None:
        """To the host whose address it has; what is for all, to all others."""
        wanted = [host for host in range(len(self._taps)) if frame[:6] == _hardware(host)]
        for host in wanted or range(len(self._taps)):
            if host != sender:
                with suppress(OSError):  # a device that is down loses it
                    os.write(self._taps[host], frame)


@contextmanager
def switched(prefix: str, number: int) -> Iterator[tuple[Switch, list[str]]]:
    """So many hosts with the addresses 10.79.0.1, 2 ..., and what lies between them.

    Namespaces of that prefix are removed before and after. OSError with the reason where there can
    be none.
    """
    if os.geteuid() != 0:
        raise OSError("network namespaces need root")
    names = [f"{prefix}{i}" for i in range(1, number + 1)]
    _remove(names)
    try:
        for name in names:
            _ip("netns", "add", name)
        switch = Switch(names)
        switch.start()
        try:
            yield switch, names
        finally:
            switch.stop()
    finally:
        _remove(names)


def address(host: int) -> str:
    return f"10.79.0.{host + 1}"


def _tap(name: str, host: int) -> int:
    """The far end of the namespace's eth0."""
    tap = os.open(TUN, os.O_RDWR)
    device = f"sms_slow_{host}"
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TAP | IFF_NO_PI))
    _ip("link", "set", device, "netns", name, "name", "eth0")
    _ip("-n", name, "link", "set", "eth0", "address", _hardware(host).hex(":"), "mtu", str(MTU))
    _ip("-n", name, "addr", "add", f"{address(host)}/24", "dev", "eth0")
    for each in ("lo", "eth0"):
        _ip("-n", name, "link", "set", each, "up")
    return tap


def _hardware(host: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, host + 1])


def _remove(names: Sequence[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _ip(*words: str) -> None:
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
    except FileNotFoundError:
        raise OSError("iproute2 is not installed: there is no ip") from None
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
