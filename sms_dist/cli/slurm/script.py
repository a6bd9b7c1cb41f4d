"""The text of an sbatch script, as a pure function of the cluster and of what is to run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from sms_dist.base.shipped import shipped
from sms_dist.cli.slurm.cluster import ClusterConfig

TEMPLATE = shipped("slurm") / "template.sbatch"

# Slurm reads #SBATCH lines with rules of its own, which no quoting covers: so an allow-list.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_PATH = re.compile(r"[A-Za-z0-9_./+@=,-]+")
_VALUE = re.compile(r"[A-Za-z0-9_.,:+@%/=\[\]()&|*-]+")
_OPTION = re.compile(rf"--[a-z][a-z-]*(={_VALUE.pattern})?")


@dataclass(frozen=True)
class Place:
    """The paths of a job: absolute, and the same on every host."""

    code: Path  # the snapshot with the packages
    start_in: Path  # relative paths in the configuration count from here
    python: str  # the interpreter of every process
    options: tuple[str, ...] = ()  # more of the launcher's

    def __post_init__(self) -> None:
        assert self.code.is_absolute(), self.code
        assert self.start_in.is_absolute(), self.start_in


@dataclass(frozen=True)
class Array:
    """Several runs as one job array; the list has a run folder a line."""

    list_file: Path
    num_runs: int
    at_most: int | None = None  # at a time


def run_script(
    cluster: ClusterConfig, place: Place, *, job_name: str, run_dir: Path, is_requeued: bool = True
) -> str:
    """Return the script for one run, whose folder is absolute; without requeue it exits with 75.

    Slurm does not make the folder of its log: `run_dir`/logs has to exist when it is submitted.
    """
    assert run_dir.is_absolute(), run_dir
    _allow(_NAME, "job_name", job_name, "letters, digits and _ . + -")
    check_folder(run_dir)
    options = {"output": f"{run_dir}/logs/%x-%j.log"}
    run = f"RUN_DIR={shlex.quote(str(run_dir))}"
    return _script(cluster, place, job_name, options, run, is_requeued)


def array_script(cluster: ClusterConfig, place: Place, array: Array, *, job_name: str) -> str:
    """Return the script for several runs; their logs are beside the list of their folders."""
    _allow(_NAME, "job_name", job_name, "letters, digits and _ . + -")
    check_folder(array.list_file)
    limit = f"%{array.at_most}" if array.at_most else ""
    options = {
        "array": f"0-{array.num_runs - 1}{limit}",
        "output": f"{array.list_file.parent}/%x-%A_%a.log",
    }
    line = '"$((SLURM_ARRAY_TASK_ID + 1))p"'
    run = f"RUN_DIR=$(sed -n {line} -- {shlex.quote(str(array.list_file))})"
    return _script(cluster, place, job_name, options, run, is_requeued=True)


def check_folder(path: Path) -> None:
    """Raise ValueError for characters in a path that Slurm or the shell could misread."""
    _allow(_PATH, "run_dir", str(path), "letters, digits and _ . / + @ = , -")


def _script(
    cluster: ClusterConfig,
    place: Place,
    job_name: str,
    options: dict[str, str],
    run: str,
    is_requeued: bool,
) -> str:
    exports = [f"export {key}={shlex.quote(text)}" for key, text in cluster.environment.items()]
    values = {
        "directives": "\n".join(_directives(cluster, job_name, options, is_requeued)),
        "setup": "\n".join(_setup(cluster)),
        "environment": "\n".join(exports),
        "run": run,
        "code": shlex.quote(str(place.code)),
        "start_in": shlex.quote(str(place.start_in)),
        "python": shlex.quote(place.python),
        "options": "".join(f" {shlex.quote(option)}" for option in place.options),
        "is_requeued": "yes" if is_requeued else "no",
        "cpus_per_rank": str(cluster.cpus_per_rank),
        "ranks_per_node": str(cluster.ranks_per_node),
        "max_restarts": str(cluster.max_restarts),
        "port": str(cluster.port or "$((20000 + SLURM_JOB_ID % 10000))"),
    }
    return _fill(TEMPLATE.read_text(encoding="utf-8"), values)


def _directives(
    cluster: ClusterConfig, job_name: str, more: dict[str, str], is_requeued: bool
) -> list[str]:
    fewest = cluster.min_nodes or cluster.nodes
    is_fixed = fewest == cluster.nodes
    options = {
        "job-name": job_name,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "nodes": cluster.nodes if is_fixed else f"{fewest}-{cluster.nodes}",
        # Slurm counts the tasks of the fewest nodes, and gives no more nodes than these need.
        "ntasks-per-node": 1 if is_fixed else None,
        "cpus-per-task": cluster.ranks_per_node * cluster.cpus_per_rank,
        "gpus-per-node": cluster.gpus_per_node or None,
        "mem": cluster.memory,
        "time": cluster.time_limit,
        "signal": f"B:USR1@{cluster.signal_seconds_before_end}",
        **more,
        "open-mode": "append",
    }
    lines = [_directive(name, str(value)) for name, value in options.items() if value is not None]
    lines += ["#SBATCH --requeue" if is_requeued else "#SBATCH --no-requeue"]
    for option in cluster.extra_sbatch:
        _allow(_OPTION, "extra_sbatch", option, "one option each, like --constraint=a100")
    return [*lines, *(f"#SBATCH {option}" for option in cluster.extra_sbatch)]


def _directive(name: str, value: str) -> str:
    _allow(_VALUE, name, value, "letters, digits and _ . , : + @ % / = [ ] ( ) & | * -")
    return f"#SBATCH --{name}={value}"


def _allow(pattern: re.Pattern[str], field: str, value: str, valid: str) -> None:
    if not pattern.fullmatch(value):
        raise ValueError(f"{field}={value!r} cannot stand in an #SBATCH line; use {valid}")


def _setup(cluster: ClusterConfig) -> list[str]:
    lines = [f"module load {shlex.quote(module)}" for module in cluster.modules]
    return lines + ([f"source {shlex.quote(cluster.venv)}"] if cluster.venv else [])


def _fill(template: str, values: dict[str, str]) -> str:
    """Replace each {{name}} in one pass, so that a value that looks like a placeholder stays."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)
