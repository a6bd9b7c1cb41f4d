"""The text of an sbatch script as a pure function of a cluster's description and a run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, Strict, ValidationError, field_validator, model_validator

from sms_dist.config_file import one_line, read_mapping
from sms_dist.config_section import Count, Natural, Section

# Beside this folder both in a clone and in an editable install.
TEMPLATE = Path(__file__).resolve().parent.parent / "slurm" / "template.sbatch"
Strings = Annotated[tuple[str, ...], Strict(False)]  # YAML has lists only

# Slurm reads #SBATCH lines with rules of its own, which no quoting covers: so an allow-list.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_PATH = re.compile(r"[A-Za-z0-9_./+@=,-]+")
_VALUE = re.compile(r"[A-Za-z0-9_.,:+@%/=\[\]()&|*-]+")
_OPTION = re.compile(rf"--[a-z][a-z-]*(={_VALUE.pattern})?")


class ClusterConfig(Section):
    """What is the same for all jobs on a cluster."""

    partition: str | None = None
    """queue (null: the cluster's default)"""
    account: str | None = None
    """who pays"""
    qos: str | None = None
    """quality of service"""
    nodes: Count = 1
    """hosts of a job"""
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
    venv: str | None = None
    """path of the virtual environment's activate script"""
    extra_sbatch: Strings = ()
    """further options of sbatch, e.g. --constraint=a100"""
    signal_seconds_before_end: Annotated[int, Field(ge=1, le=65535)] = 120
    """time the ranks get to stop at a safe point"""
    port: Annotated[int, Field(ge=1024, le=65535)] = 29500
    """on which the ranks find each other; two jobs that share a host need two"""

    @field_validator("environment")
    @classmethod
    def _check_names(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"has {name!r}, which cannot name a variable; use A-Z, 0-9 and _")
        return environment

    @model_validator(mode="after")
    def _check_gpus(self) -> ClusterConfig:
        if 0 < self.gpus_per_node < self.ranks_per_node:
            raise ValueError(
                f"ranks_per_node={self.ranks_per_node} is more than gpus_per_node="
                f"{self.gpus_per_node}; a rank needs a GPU of its own"
            )
        return self


def load_cluster(path: Path) -> ClusterConfig:
    """The cluster described in a YAML file."""
    try:
        return ClusterConfig.model_validate(read_mapping(path, "--cluster"))
    except ValidationError as error:
        raise ValueError(f"--cluster {path}: {one_line(error, ClusterConfig)}") from None


def sbatch_script(
    cluster: ClusterConfig,
    *,
    job_name: str,
    config_path: Path | None,
    run_dir: Path,
    settings: Sequence[str],
    repository: Path,
) -> str:
    """What to hand to sbatch. Relative paths count from `repository`, which is absolute.

    Slurm does not make the folder of its log: `run_dir`/logs has to exist when it is submitted.
    """
    assert repository.is_absolute(), repository
    run_dir = repository / run_dir
    exports = [f"export {key}={shlex.quote(text)}" for key, text in cluster.environment.items()]
    values = {
        "directives": "\n".join(_directives(cluster, job_name, run_dir)),
        "setup": "\n".join(_setup(cluster)),
        "environment": "\n".join(exports),
        "repository": shlex.quote(str(repository)),
        "run_dir": shlex.quote(str(run_dir)),
        "cpus_per_rank": str(cluster.cpus_per_rank),
        "port": str(cluster.port),
        "command": shlex.join(_command(cluster, config_path, run_dir, settings)),
    }
    return _fill(TEMPLATE.read_text(encoding="utf-8"), values)


def _command(
    cluster: ClusterConfig, config_path: Path | None, run_dir: Path, settings: Sequence[str]
) -> list[str]:
    """What follows torchrun's words about the mesh of hosts."""
    command = ["--nproc-per-node", str(cluster.ranks_per_node), "launcher/main.py"]
    command += ["--config", str(config_path)] if config_path else []
    command += ["--run-dir", str(run_dir)]
    return command + [word for setting in settings for word in ("--set", setting)]


def _directives(cluster: ClusterConfig, job_name: str, run_dir: Path) -> list[str]:
    _allow(_NAME, "job_name", job_name, "letters, digits and _ . + -")
    _allow(_PATH, "run_dir", str(run_dir), "letters, digits and _ . / + @ = , -")
    options = {
        "job-name": job_name,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "nodes": cluster.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": cluster.ranks_per_node * cluster.cpus_per_rank,
        "gpus-per-node": cluster.gpus_per_node or None,
        "mem": cluster.memory,
        "time": cluster.time_limit,
        "signal": f"B:USR1@{cluster.signal_seconds_before_end}",
        "output": f"{run_dir}/logs/%x-%j.log",
        "open-mode": "append",
    }
    lines = [_directive(name, str(value)) for name, value in options.items() if value is not None]
    for option in cluster.extra_sbatch:
        _allow(_OPTION, "extra_sbatch", option, "one option each, like --constraint=a100")
    return [*lines, "#SBATCH --requeue", *(f"#SBATCH {option}" for option in cluster.extra_sbatch)]


def _directive(name: str, value: str) -> str:
    _allow(_VALUE, name, value, "letters, digits and _ . , : + @ % / = [ ] ( ) & | * -")
    return f"#SBATCH --{name}={value}"


def _allow(pattern: re.Pattern[str], field: str, value: str, legal: str) -> None:
    if not pattern.fullmatch(value):
        raise ValueError(f"{field}={value!r} cannot stand in an #SBATCH line; use {legal}")


def _setup(cluster: ClusterConfig) -> list[str]:
    lines = [f"module load {shlex.quote(module)}" for module in cluster.modules]
    return lines + ([f"source {shlex.quote(cluster.venv)}"] if cluster.venv else [])


def _fill(template: str, values: dict[str, str]) -> str:
    """Replaces each {{name}} in one pass, so a value that looks like a placeholder stays text."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)
