"""The heap of a process that trains: what a step frees, the next one uses."""

import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from sms_dist.distributed.heap import keep_freed_memory

assert keep_freed_memory() is (sys.argv[1] == "kept")

def step():
    return [torch.ones(1 << 20) for _ in range(8)]  # 4 MiB each

step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 10 * 8 * 1024  # that ten steps touch


def faults(*words: str, **variables: str) -> int:
    plain = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "GLIBC_TUNABLES")}
    done = subprocess.run([sys.executable, "-c", CODE, *words], env=plain | variables,
                          check=True, capture_output=True, timeout=120)  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_pages_are_cleared_once_and_not_in_every_step():
    assert faults("kept") < PAGES / 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heap")
def test_what_the_environment_says_of_the_heap_holds():
    """1 MiB: everything larger is asked of the kernel anew."""
    assert faults("left", MALLOC_MMAP_THRESHOLD_=str(1 << 20)) > PAGES / 2
