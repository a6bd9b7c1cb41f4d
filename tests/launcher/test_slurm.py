"""The sbatch script: its text, and that nothing a user writes can break out of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.slurm import ClusterConfig, load_cluster, sbatch_script

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTERS = sorted((REPOSITORY / "slurm" / "clusters").glob("*.yaml"))
GOLDEN = Path(__file__).with_name("golden.sbatch")
HOSTILE = [
    "x; touch hacked",
    "$(touch hacked)",
    "`touch hacked`",
    "x\n#SBATCH --wrap=true",
    "it's 'quoted' \"twice\"",
    "-rf",
    "{{command}}",
    "a & b | c > d",
]


def script(cluster: ClusterConfig | None = None, **changes: Any) -> str:
    """A script for a GPU cluster, with some of its inputs replaced."""
    inputs: dict[str, Any] = {
        "job_name": "cifar10_sms",
        "config_path": Path("configs/table_05_cifar10_resnet18.yaml"),
        "run_dir": Path("runs/cifar10_sms"),
        "settings": ["seed=1", "candidates.vary={weight_decay: [1e-4, 5e-4, 1e-3]}"],
        "repository": Path("/home/me/sms_dist"),
    }
    default = load_cluster(REPOSITORY / "slurm" / "clusters" / "example_gpu.yaml")
    return sbatch_script(cluster or default, **(inputs | changes))


def run(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a script with stand-ins for Slurm's commands; srun runs its task with status $RESULT."""
    fake = """
        scontrol() { [ "$1" = show ] && echo host1 && echo host2 || echo "scontrol $*"; }
        module() { echo "module $*"; }
        torchrun() { printf '<%s>' "$@"; }
        export -f torchrun
        srun() {
            while [ "$1" != bash ]; do shift; done
            shift 3  # bash -c TEXT: the text would look for a real torchrun
            shift && torchrun "$@"
            [ -z "$SIGNAL" ] || { kill -USR1 $$; sleep 0.5; }
            return "$RESULT"
        }
    """
    environment = {
        "PATH": "/usr/bin:/bin",
        "SLURM_JOB_NODELIST": "host[1-2]",
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "1",
        "RESULT": "0",
        "SIGNAL": "",
    }
    (folder / "job").write_text(fake + text)
    return subprocess.run(
        ["bash", "job"], cwd=folder, env=environment, capture_output=True, text=True, timeout=30
    )


def local(folder: Path, **environment: str) -> str:
    """A script that runs in `folder`, with the stand-ins told what to do."""
    cluster = ClusterConfig(environment=environment)
    return script(cluster, repository=folder, run_dir=folder / "run")


def test_script_is_the_golden_one() -> None:
    assert script() == GOLDEN.read_text()


def test_script_is_a_pure_function() -> None:
    assert script() == script()


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_every_cluster_file_loads_and_gives_bash(path: Path) -> None:
    text = script(load_cluster(path))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=30)
    assert "{{" not in text


def test_a_cpu_cluster_asks_for_no_gpus() -> None:
    assert "gpus" not in script(ClusterConfig())


def test_the_embedded_default_needs_no_config() -> None:
    assert "--config" not in script(config_path=None)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_reaches_the_ranks_unchanged(text: str, tmp_path: Path) -> None:
    cluster = ClusterConfig(modules=(text,), environment={"NOTE": text})
    full = script(
        cluster, repository=tmp_path, run_dir=tmp_path / "r", config_path=text, settings=[text]
    )
    done = run(full, tmp_path)
    assert f"module load {text}\n" in done.stdout
    assert f"<--config><{text}><--run-dir><{tmp_path}/r><--set><{text}>" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "r"]


@pytest.mark.parametrize("text", [*HOSTILE, "", "a b", "ä", "%x", "/x"])
def test_hostile_job_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^job_name=.* cannot stand in an #SBATCH line; use"):
        script(job_name=text)


@pytest.mark.parametrize("text", ["a b", "x\n#SBATCH --wrap=true", "$(x)", "%j", "a;b"])
def test_hostile_run_dir_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^run_dir=.* cannot stand"):
        script(run_dir=Path(text))


@pytest.mark.parametrize("field", ["partition", "account", "qos", "memory"])
@pytest.mark.parametrize("text", ["x y", "x\n#SBATCH --wrap=true", "", "x#y", "'x'"])
def test_hostile_directive_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in an #SBATCH line"):
        script(ClusterConfig.model_validate({field: text}))


@pytest.mark.parametrize("line", ["constraint=a", "--a=b c", "--a=b\n#SBATCH --c", "-C a", "--"])
def test_hostile_extra_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="extra_sbatch="):
        script(ClusterConfig(extra_sbatch=(line,)))


def test_status_75_requeues(tmp_path: Path) -> None:
    done = run(local(tmp_path, RESULT="75"), tmp_path)
    assert (done.returncode, "scontrol requeue 7" in done.stdout) == (0, True)


def test_another_failure_is_passed_on(tmp_path: Path) -> None:
    done = run(local(tmp_path, RESULT="3"), tmp_path)
    assert (done.returncode, "requeue" in done.stdout) == (3, False)


@pytest.mark.parametrize(("result", "requeued"), [("1", True), ("0", False)])
def test_signal_touches_the_stop_file_and_waits(
    result: str, requeued: bool, tmp_path: Path
) -> None:
    done = run(local(tmp_path, RESULT=result, SIGNAL="yes"), tmp_path)
    assert (tmp_path / "run" / "stop").exists()
    assert (done.returncode, "scontrol requeue 7" in done.stdout) == (0, requeued)


def test_stop_file_of_an_earlier_run_is_removed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "stop").touch()
    assert run(local(tmp_path), tmp_path).returncode == 0
    assert not (tmp_path / "run" / "stop").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nods: 2", "nods is not a key, did you mean nodes"),
        ("nodes: 0", "nodes=0 should be greater than or equal to 1"),
        ("nodes: two", "nodes='two' should be a valid integer"),
        ("time_limit: 43200", "time_limit=43200 should be a valid string; write it in quotes"),
        ("time_limit: soon", "time_limit='soon' "),
        ("environment: {A: 1}", "environment.A=1 should be a valid string; write it in quotes"),
        ("environment: {a-b: x}", "environment has 'a-b', which cannot name a variable"),
        ("{ranks_per_node: 8, gpus_per_node: 4}", "ranks_per_node=8 is more than gpus_per_node=4"),
        ("- nodes", "is not a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_mistake_in_a_cluster_file_is_one_clear_line(
    text: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_cluster(path)
    assert str(caught.value).startswith(f"--cluster {path}")
    assert "\n" not in str(caught.value)


def test_missing_cluster_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--cluster .*nowhere\.yaml: there is no such file"):
        load_cluster(tmp_path / "nowhere.yaml")
