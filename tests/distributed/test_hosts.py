"""Two hosts on one machine, each with its own torchrun. Four of them: tests/host_trials.py."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hosts import network, torchrun
from launching import MAIN, last_soup, main_arguments, sha256, start

NUM_HOSTS = 2
SETTINGS = ("candidates.count=4", "data.validation=0.0")


@pytest.fixture
def hosts():
    with ExitStack() as stack:
        try:
            yield stack.enter_context(network(NUM_HOSTS))
        except OSError as error:
            pytest.skip(str(error))


def test_two_hosts_make_the_same_bits_as_one_host_with_two_ranks(hosts, tmp_path) -> None:
    apart, together = tmp_path / "apart", tmp_path / "together"
    logs = [tmp_path / f"{host.name}.log" for host in hosts]
    arguments = main_arguments(apart, *SETTINGS)
    for node, (host, log) in enumerate(zip(hosts, logs, strict=True)):
        static = (f"--nnodes={NUM_HOSTS}", f"--node-rank={node}", "--nproc-per-node=1")
        place = (f"--master-addr={hosts[0].address}", "--master-port=29500")
        host.start(torchrun(*static, *place, script=MAIN, arguments=arguments), log)
    statuses = [host.process.wait(120) for host in hosts]
    assert statuses == [0] * NUM_HOSTS, logs[0].read_text()[-3000:]
    said = [log.read_text() for log in logs]
    assert ["phase" in text for text in said] == [True, False]  # rank 0 speaks
    assert start(together, *SETTINGS, ranks=NUM_HOSTS).status == 0
    assert sha256(apart / "dense" / "weights.safetensors") == sha256(
        together / "dense" / "weights.safetensors"
    )
    assert last_soup(apart) == last_soup(together)
