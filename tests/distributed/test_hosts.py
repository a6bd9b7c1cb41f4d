"""Four hosts on one machine: network namespaces on a bridge, each with its own torchrun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

import pytest
from launching import MAIN, ROOT, last_soup, main_arguments, sha256, start

NUM_HOSTS = 4
SETTINGS = ("candidates.count=4", "data.validation=0.0")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _remove(names: list[str]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture
def hosts():
    """Namespaces that see each other as 10.78.0.1 ... 10.78.0.4, and nothing else."""
    if shutil.which("ip") is None:
        pytest.skip("iproute2 is not installed")
    switch, *names = (f"sms{os.getpid()}h{i}" for i in range(NUM_HOSTS + 1))
    try:
        _ip("netns", "add", switch)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    with ExitStack() as stack:
        stack.callback(_remove, [*names, switch])
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for i, name in enumerate(names, 1):
            port = f"port{i}"
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
            peer = ("peer", "name", port, "netns", switch)
            _ip("link", "add", "name", "eth0", "netns", name, "type", "veth", *peer)
            _ip("-n", name, "addr", "add", f"10.78.0.{i}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", switch, "link", "set", port, "master", "br0")
            _ip("-n", switch, "link", "set", port, "up")
        yield names


def _torchrun(host: str, node: int, run_dir) -> subprocess.Popen:
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "eth0",
    }
    static = (f"--nnodes={NUM_HOSTS}", f"--node-rank={node}", "--nproc-per-node=1")
    place = ("--master-addr=10.78.0.1", "--master-port=29500")
    command = ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run"]
    arguments = [str(word) for word in main_arguments(run_dir, *SETTINGS)]
    with (run_dir.parent / f"{host}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, *static, *place, str(MAIN), *arguments],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def test_four_hosts_make_the_same_bits_as_one_host_with_four_ranks(hosts, tmp_path) -> None:
    apart, together = tmp_path / "apart", tmp_path / "together"
    with ExitStack() as stack:
        processes = [_torchrun(host, node, apart) for node, host in enumerate(hosts)]
        for process in processes:
            stack.callback(process.kill)
        statuses = [process.wait(120) for process in processes]
    assert statuses == [0] * NUM_HOSTS, (tmp_path / f"{hosts[0]}.log").read_text()[-3000:]
    said = [(tmp_path / f"{host}.log").read_text() for host in hosts]
    assert ["phase" in text for text in said] == [True, False, False, False]  # rank 0 speaks
    assert start(together, *SETTINGS, ranks=NUM_HOSTS).status == 0
    assert sha256(apart / "dense" / "weights.safetensors") == sha256(
        together / "dense" / "weights.safetensors"
    )
    assert last_soup(apart) == last_soup(together)
