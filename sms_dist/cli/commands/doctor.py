"""sms-dist doctor: is this machine fit to train on?

torch is imported inside the checks: that it cannot be imported is one of the findings.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sms_dist.cli.commands import check_writable, config_options

if TYPE_CHECKING:
    from sms_dist.config import Config

OLDEST_PYTHON = (3, 10)


@dataclass(frozen=True)
class Finding:
    is_ok: bool
    text: str


@click.command(epilog="Example: sms-dist doctor --config configs/digits_sms.yaml")
@config_options
def doctor(config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Check that this machine is fit to train on.

    Versions, devices, communication, the folder of the runs; exit status 1 if something is broken.
    """
    from sms_dist.config.file import load

    is_fit = True
    for finding in examine(load(config_file, settings)):
        is_fit = is_fit and finding.is_ok
        click.echo(f"{'ok     ' if finding.is_ok else 'problem'}  {finding.text}")
    sys.exit(0 if is_fit else 1)


def examine(config: Config) -> Iterator[Finding]:
    """Yield all findings; without torch there are fewer."""
    yield python()
    yield cores()
    yield threads(os.environ.get("OMP_NUM_THREADS"))
    yield writable(Path(config.records.root))
    finding = torch()
    yield finding
    if finding.is_ok:
        for check in (torchvision, deepspeed, devices, backends, all_reduce):
            yield check()


def python() -> Finding:
    text = f"python {platform.python_version()}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding(False, f"{text} is too old; install 3.10 or newer")
    return Finding(True, text)


def cores() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Finding(True, f"{usable} CPU cores")


def threads(setting: str | None) -> Finding:
    """Check OMP_NUM_THREADS, which may be unset because the launchers set it to 1."""
    if setting is None:
        return Finding(True, "OMP_NUM_THREADS is not set; sms-dist and torchrun set it to 1")
    is_ok = setting.isdecimal() and int(setting) > 0
    way_out = "" if is_ok else " is no number of threads; export OMP_NUM_THREADS=1"
    return Finding(is_ok, f"OMP_NUM_THREADS={setting}{way_out}")


def writable(folder: Path) -> Finding:
    """Check that run folders can be made in records.root."""
    try:
        check_writable(folder, "set records.root, or name a run folder with --run-dir")
        return Finding(True, f"records.root={folder} is writable")
    except ValueError as error:
        return Finding(False, f"records.root={folder}: {error}")


def torch() -> Finding:
    return _importable("torch", lambda: import_module("torch"), "pip install torch")


def torchvision() -> Finding:
    from sms_dist.base import vision

    return _importable("torchvision", vision.torchvision, "install the one that fits this torch")


def deepspeed() -> Finding:
    module = "sms_dist.engines.deepspeed"
    return _importable("deepspeed", lambda: import_module(module), "pip install deepspeed")


def devices() -> Finding:
    from torch import cuda

    names = [cuda.get_device_name(index) for index in range(cuda.device_count())]
    return Finding(True, f"{len(names)} GPUs: {', '.join(names)}" if names else "no GPU, the CPU")


def backends() -> Finding:
    """Check for gloo, which joins ranks without a GPU of their own, and nccl for those with one."""
    from torch import cuda, distributed

    is_there = {"gloo": distributed.is_gloo_available(), "nccl": distributed.is_nccl_available()}
    needed = ["gloo", "nccl"] if cuda.is_available() else ["gloo"]
    missing = [name for name in needed if not is_there[name]]
    if missing:
        return Finding(False, f"this torch lacks {', '.join(missing)}; install another build")
    there = [name for name, is_available in is_there.items() if is_available]
    return Finding(True, f"backends: {', '.join(there)}")


def all_reduce() -> Finding:
    """Add up a number on the mesh of an experiment with one rank."""
    import torch

    from sms_dist.mesh import topology
    from sms_dist.mesh.collectives import sum_

    try:
        mesh = topology.start()
        total = sum_(torch.ones(1, device=mesh.device), mesh.world).item()
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        way_out = "try GLOO_SOCKET_IFNAME=lo, or NCCL_DEBUG=INFO for its reasons"
        return Finding(False, f"all-reduce: {reason}; {way_out}")
    finally:
        topology.stop()
    return Finding(total == 1, f"all-reduce of one rank on {mesh.device.type}: {total:g}")


def _importable(package: str, load: Callable[[], object], way_out: str) -> Finding:
    try:
        load()
        return Finding(True, f"{package} {metadata.version(package)}")
    except (ImportError, OSError, RuntimeError) as error:  # the last two: libraries that do not fit
        reason = " ".join(str(error).split())
        return Finding(False, f"{package} cannot be used ({reason}); {way_out}")
