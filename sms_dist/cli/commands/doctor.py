"""sms-dist doctor: is this machine fit to train on?

A check returns what it found, or raises ValueError with what is wrong and the way out. torch is
imported inside the checks: that it cannot be imported is one of the findings.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sms_dist.cli.commands import check_writable, config_options

if TYPE_CHECKING:
    from sms_dist.config import Config


@click.command(epilog="Example: sms-dist doctor --config configs/digits_sms.yaml")
@config_options
def doctor(config_file: Path | None, settings: tuple[str, ...]) -> None:
    """Check that this machine is fit to train on.

    Versions, devices, communication, the folder of the runs; exit status 1 if something is broken.
    """
    from sms_dist.config.file import load

    config = load(config_file, settings)
    root, is_fit = Path(config.records.root), True
    checks: tuple[Callable[[], str], ...] = (
        lambda: f"python {platform.python_version()}",
        cores,
        lambda: threads(os.environ.get("OMP_NUM_THREADS")),
        lambda: writable(root),
        torch,
        torchvision,
        deepspeed,
        devices,
        backends,
        all_reduce,
        lambda: model(config),
    )
    for check in checks:
        try:
            click.echo(f"ok       {check()}")
        except ValueError as problem:
            click.echo(f"problem  {problem}")
            is_fit = False
            if check is torch:  # the others need it
                break
    sys.exit(0 if is_fit else 1)


def cores() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} CPU cores"


def threads(setting: str | None) -> str:
    """Check OMP_NUM_THREADS, which may be unset because the launchers set it to 1."""
    if setting is None:
        return "OMP_NUM_THREADS is not set; sms-dist and torchrun set it to 1"
    if not setting.isdecimal() or int(setting) == 0:
        raise ValueError(
            f"OMP_NUM_THREADS={setting} is no number of threads; export OMP_NUM_THREADS=1"
        )
    return f"OMP_NUM_THREADS={setting}"


def writable(folder: Path) -> str:
    """Check that run folders can be made in records.root."""
    way_out = "set records.root, or name a run folder with --run-dir"
    check_writable(folder, f"records.root={folder}: {way_out}")
    return f"records.root={folder} is writable"


def torch() -> str:
    return _imported("torch", lambda: import_module("torch"), "pip install torch")


def torchvision() -> str:
    from sms_dist.base import vision

    return _imported("torchvision", vision.torchvision, "install the one that fits this torch")


def deepspeed() -> str:
    module = "sms_dist.engines.deepspeed"
    return _imported("deepspeed", lambda: import_module(module), "pip install deepspeed")


def devices() -> str:
    from torch import cuda

    names = [cuda.get_device_name(index) for index in range(cuda.device_count())]
    return f"{len(names)} GPUs: {', '.join(names)}" if names else "no GPU, the CPU"


def backends() -> str:
    """Check for gloo, which joins ranks without a GPU of their own, and nccl for those with one."""
    from torch import cuda, distributed

    is_there = {"gloo": distributed.is_gloo_available(), "nccl": distributed.is_nccl_available()}
    missing = [name for name, is_available in is_there.items() if not is_available]
    if "gloo" in missing or (missing and cuda.is_available()):
        raise ValueError(f"this torch lacks {', '.join(missing)}; install another build")
    return f"backends: {', '.join(name for name in is_there if name not in missing)}"


def all_reduce() -> str:
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
        raise ValueError(f"all-reduce: {reason}; {way_out}") from None
    finally:
        topology.stop()
    return f"all-reduce of one rank on {mesh.device.type}: {total:g}"


def model(config: Config) -> str:
    """Check the configuration with a training step without values, and name what stays dense."""
    from sms_dist.cli.plan import left_dense, planned

    plan = planned(config)
    sizes = plan.plan.sizes
    lines = [f"model {config.model.name}: {sizes.num_prunable:,} prunable weights"]
    return "; ".join([*lines, *left_dense(plan.layers)])


def _imported(package: str, load: Callable[[], object], way_out: str) -> str:
    try:
        load()
        return f"{package} {metadata.version(package)}"
    except (ImportError, OSError, RuntimeError) as error:  # the last two: libraries that do not fit
        reason = " ".join(str(error).split())
        raise ValueError(f"{package} cannot be used ({reason}); {way_out}") from None
