"""What ranks tell the store while they train is what a forecast counts for it."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta

import pytest
import torch.distributed as dist

from sms_dist.base.process import Process
from sms_dist.cli.forecast.traffic import BEAT_BYTES, CONTROL_BYTES
from sms_dist.mesh.beats import Beat, Board

PATIENCE = timedelta(seconds=60)
PROCESS = Process("node17", "node17 0f5b04b8-6c0a-4d0a-9d6a-6b0d8c2f7a11 pid:[1]", 12345, "123456")


class Counting:
    """Passes on what a client and the store say to each other."""

    def __init__(self, store: dist.TCPStore) -> None:
        self._store, self._server = store, socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.num_bytes = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self._server.accept()
        store = socket.create_connection(("127.0.0.1", self._store.port))
        for ends in ((client, store), (store, client)):
            threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        while said := source.recv(1 << 16):
            self.num_bytes += len(said)
            target.sendall(said)


@pytest.fixture
def counted() -> tuple[dist.Store, Counting]:
    """A store as a rank of a run has it, and what passes between them."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
    counting = Counting(server)
    client = dist.TCPStore("127.0.0.1", counting.port, is_master=False, timeout=PATIENCE)
    return dist.PrefixStore("sms_dist start 0123456789abcdef", client), counting


def test_a_beat_that_is_read_takes_what_a_forecast_says(counted) -> None:
    store, counting = counted
    board = Board(store, lambda: None)
    for rank in range(9):
        board.post(Beat(rank, 100, PROCESS, "phase 2, candidate 1, step 1234", 12345, idle=0.0123))
    board.read(range(9))  # knows from here on who has begun

    def bytes_of(num_beats: int) -> int:
        before = counting.num_bytes
        board.read(range(num_beats))
        return counting.num_bytes - before

    bytes_of(1)
    one, nine = bytes_of(1), bytes_of(9)
    assert (nine - one) / 8 == pytest.approx(BEAT_BYTES, rel=0.2)
    assert one - BEAT_BYTES < CONTROL_BYTES / 2  # the rest: its own beat, two looks, headers
