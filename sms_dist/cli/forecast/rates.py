"""What was measured on one host: how long steps and everything around them take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, Strict, ValidationError

from sms_dist.base.plain import Dumper
from sms_dist.config import Config
from sms_dist.config.compare import flatten
from sms_dist.config.file import one_line, read_mapping
from sms_dist.config.section import Above0, AtLeast0, Count, Natural, Section

OPTION = "--rates"
# Of a configuration, what decides how fast it is on a host.
DECISIVE = (
    "data.name",
    "data.batch_size",
    "data.size",
    "data.augment",
    "data.loader",
    "model.name",
    "pretrain.optimizer",
    "engine.name",
    "engine.device",
    "engine.threads",
    "engine.precision",
    "engine.compile",
    "engine.channels_last",
    "engine.accumulation",
)


class HostRates(Section):
    """Seconds and bytes of each process while so many of them work on one host."""

    processes: Count
    """that worked at the same time"""
    start_seconds: AtLeast0 = 0.0
    """from the command to the first step, and from the last one to the end"""
    step_seconds: AtLeast0 = 0.0
    """of every training step, however few samples it has"""
    sample_seconds: AtLeast0
    """of each sample of a step, on top"""
    evaluation_seconds: AtLeast0 = 0.0
    """of each sample that is evaluated"""
    batch_norm_seconds: AtLeast0 = 0.0
    """of each sample from which batch norm is recomputed"""
    dense_seconds: AtLeast0 = 0.0
    """of a pretraining, besides its steps and measuring"""
    candidate_seconds: AtLeast0 = 0.0
    """of a candidate, besides its steps and measuring: an engine, hashes, files"""
    phase_seconds: AtLeast0 = 0.0
    """of a phase, besides its candidates and measuring: pruning, merging, files"""
    process_bytes: Natural = 0
    """memory of a process without the model: libraries, the data"""
    sample_bytes: AtLeast0 = 0.0
    """memory that each sample of a training step takes"""
    link_bytes_per_second: Above0 | None = None
    """between two processes, as an all-reduce of the parameters sees it (null: one process)"""
    link_seconds: AtLeast0 = 0.0
    """until a message is there"""


class Rates(Section):
    """A file of rates. Whoever knows no more than the time of a step leaves out the rest."""

    configuration: dict[str, Any] = Field(default_factory=dict)
    """what was measured, as far as it decides the rates"""
    batch_norm_values: Natural = 0
    """running means and variances of the model"""
    device: str = "unknown"
    """cpu, or the GPU's name"""
    hosts: Annotated[tuple[HostRates, ...], Strict(False), Field(min_length=1)]
    """measured with different numbers of processes"""

    def at(self, processes: int) -> HostRates:
        """Measured with as many processes on a host, or else with the next more, or the most."""
        ordered = sorted(self.hosts, key=lambda host: host.processes)
        enough = [host for host in ordered if host.processes >= processes]
        return enough[0] if enough else ordered[-1]

    def measured_at(self, processes: int) -> bool:
        return any(host.processes == processes for host in self.hosts)


def decisive(config: Config) -> dict[str, Any]:
    """The keys of a configuration that decide its rates."""
    keys = flatten(config.model_dump(mode="json", by_alias=True))
    return {name: keys[name] for name in DECISIVE} | {"model.options": config.model.options}


def check_rates(rates: Rates, config: Config, place: str) -> None:
    """ValueError where they are those of another configuration."""
    for name, value in decisive(config).items():
        if (found := rates.configuration.get(name, value)) != value:
            raise ValueError(
                f"{place} was measured with {name}={found}, not {value}; measure this "
                "configuration: sms-dist measure"
            )


def load_rates(path: Path) -> Rates:
    """ValueError, one line, for what is wrong in the file."""
    try:
        return Rates.model_validate(read_mapping(path, OPTION))
    except ValidationError as error:
        raise ValueError(f"{OPTION} {path}: {one_line(error, Rates)}") from None


def text(rates: Rates, comments: Sequence[str]) -> str:
    """The file."""
    lines = "".join(f"# {line}\n" for line in comments)
    return lines + yaml.dump(rates.model_dump(mode="json"), Dumper=Dumper, sort_keys=False)
