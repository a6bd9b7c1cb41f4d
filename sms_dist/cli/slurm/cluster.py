"""A cluster file: the settings that all jobs on a cluster share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from sms_dist.config.file import one_line, read_mapping
from sms_dist.config.section import (
    Above0,
    AtLeast0,
    Count,
    FilePath,
    Fraction,
    Natural,
    Section,
)

Strings = Annotated[tuple[str, ...], Strict(False)]  # YAML has lists only


class ClusterConfig(Section):
    """The settings that all jobs on a cluster share."""

    partition: str | None = None
    """queue (null: the cluster's default)"""
    account: str | None = None
    """who pays"""
    qos: str | None = None
    """quality of service"""
    nodes: Count = 1
    """hosts of a job"""
    min_nodes: Count | None = None
    """start with as few hosts as this where there are not more (null: nodes)"""
    ranks_per_node: Count = 1
    """processes on each host; with GPUs at most one per GPU"""
    gpus_per_node: Natural = 0
    """GPUs on each host (0: train on the CPU)"""
    cpus_per_rank: Count = 1
    """cores, and so threads, of each process"""
    memory: str | None = None
    """of each host, as Slurm writes it: "64G" ("0": all)"""
    time_limit: Annotated[str, Field(pattern=r"^(\d+-)?\d+(:\d\d){0,2}$")] = "01:00:00"
    """after which Slurm stops the job, "days-hours:minutes:seconds" """
    modules: Strings = ()
    """environment modules to load, in this order"""
    environment: dict[str, str] = Field(default_factory=dict)
    """variables to export"""
    venv: FilePath | None = None
    """path of the virtual environment's activate script (null: the Python that submits)"""
    extra_sbatch: Strings = ()
    """further options of sbatch, e.g. --constraint=a100"""
    signal_seconds_before_end: Annotated[int, Field(ge=1, le=65535)] = 120
    """time the ranks get to stop at a safe point"""
    max_restarts: Natural = 3
    """how often ranks that crashed are started again within a job"""
    port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """on which the ranks find each other (null: 20000 to 29999, by the number of the job)"""
    network_gbit: Above0 = 10.0
    """for forecasts: Gbit/s between a host and all others"""
    network_microseconds: AtLeast0 = 50.0
    """for forecasts: until a message is at another host"""
    within_gbit: Above0 = 16.0
    """for forecasts: Gbit/s between two ranks of a host"""
    within_microseconds: AtLeast0 = 30.0
    """for forecasts: until a message is at another rank of the host"""
    overlap: Fraction = 0.0
    """for forecasts: fraction of the sending of gradients that is hidden behind computing"""

    @property
    def num_ranks(self) -> int:
        """The ranks of a job on all its hosts."""
        return self.nodes * self.ranks_per_node

    @field_validator("environment")
    @classmethod
    def _check_names(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"has {name!r}, which cannot name a variable; use A-Z, 0-9 and _")
        return environment

    @model_validator(mode="after")
    def _check(self) -> ClusterConfig:
        if 0 < self.gpus_per_node < self.ranks_per_node:
            raise ValueError(
                f"ranks_per_node={self.ranks_per_node} is more than gpus_per_node="
                f"{self.gpus_per_node}; a rank needs a GPU of its own"
            )
        if self.min_nodes is not None and self.min_nodes > self.nodes:
            raise ValueError(f"min_nodes={self.min_nodes} is more than nodes={self.nodes}")
        total, last = seconds(self.time_limit), self.signal_seconds_before_end
        if 0 < total <= last:  # 0: no limit
            raise ValueError(
                f"signal_seconds_before_end={last} must be less than time_limit="
                f"{self.time_limit!r}, which is {total} seconds"
            )
        return self


def seconds(time_limit: str) -> int:
    """Return the seconds of a time limit: "90" and "1:30" begin with minutes, "1-12" with days."""
    days, dash, rest = time_limit.rpartition("-")
    numbers = [int(number) for number in rest.split(":")]
    if dash:
        hours, minutes, last = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, last = numbers
    else:
        hours, (minutes, last) = 0, [*numbers, 0][:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + last


def load_cluster(path: Path) -> ClusterConfig:
    """Return the cluster that a YAML file describes; ValueError, one line, for a mistake in it."""
    try:
        return ClusterConfig.model_validate(read_mapping(path, "--cluster"))
    except ValidationError as error:
        raise ValueError(f"--cluster {path}: {one_line(error, ClusterConfig)}") from None
