"""The sbatch script: its text, that nothing a user writes can break out of it, and what it does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sms_dist.cli.slurm.cluster import ClusterConfig, load_cluster
from sms_dist.cli.slurm.script import Array, Place, array_script, run_script

REPOSITORY = Path(__file__).resolve().parents[2]
CLUSTERS = sorted((REPOSITORY / "slurm" / "clusters").glob("*.yaml"))
GOLDEN = Path(__file__).with_name("golden.sbatch")
ME = Path("/home/me/sms_dist")
HOSTILE = [
    "x; touch hacked",
    "$(touch hacked)",
    "`touch hacked`",
    "x\n#SBATCH --wrap=true",
    "it's 'quoted' \"twice\"",
    "-rf",
    "{{code}}",
    "a & b | c > d",
]


def script(cluster: ClusterConfig | None = None, **changes: Any) -> str:
    """A script for a GPU cluster, with some of its inputs replaced."""
    run_dir = ME / "runs" / "cifar10_sms"
    inputs: dict[str, Any] = {
        "job_name": "cifar10_sms",
        "run_dir": run_dir,
        "place": Place(run_dir / "snapshot", ME, "python"),
    }
    default = load_cluster(REPOSITORY / "slurm" / "clusters" / "example_gpu.yaml")
    return run_script(cluster or default, **(inputs | changes))


def run(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script with stand-ins for Slurm's commands.

    srun ends with $RESULT, after $SIGNAL has come to the script and $MEANWHILE has been done.
    """
    fake = """
        scontrol() {
            case "$*" in
                "show hostnames "*) printf '%s\\n' host1 host2 ;;
                "show --oneliner node host1") echo "NodeName=host1 NodeAddr=10.0.0.1 Port=1" ;;
                "show --oneliner job 7")
                    touch asked_slurm
                    echo "JobId=7 Reason=$REASON Dependency=(null)" ;;
                *) echo "scontrol $*" ;;
            esac
        }
        module() { echo "module $*"; }
        srun() {
            while [ "$1" != bash ]; do shift; done
            printf '<%s>' "$RUN_DIR" "$MASTER_ADDR" "$MASTER_PORT" "${@:5}"
            [ -z "$SIGNAL" ] || kill -"$SIGNAL" $$
            [ "$SIGNAL" != USR1 ] || until [ -e "$RUN_DIR/stop" ]; do sleep 0.05; done
            [ "$SIGNAL" != TERM ] || until [ -e asked_slurm ]; do sleep 0.05; done
            eval "$MEANWHILE"
            return "$RESULT"
        }
    """
    given = {
        "PATH": "/usr/bin:/bin",
        "SLURM_JOB_NODELIST": "host[1-2]",
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "1",
        "RESULT": "0",
        "SIGNAL": "",
        "MEANWHILE": "",
        "REASON": "None",
    }
    (folder / "job").write_text(fake + text)
    return subprocess.run(
        ["bash", "job"],
        cwd=folder,
        env=given | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def local(folder: Path, cluster: ClusterConfig | None = None, **changes: Any) -> str:
    """A script that runs in `folder`, with the code of this repository."""
    place = Place(REPOSITORY, folder, sys.executable)
    return script(
        cluster or ClusterConfig(), **({"place": place, "run_dir": folder / "run"} | changes)
    )


def is_requeued(done: subprocess.CompletedProcess[str]) -> bool:
    return "scontrol requeue 7\n" in done.stdout


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


def test_fewer_nodes_will_do_where_that_is_said() -> None:
    text = script(ClusterConfig(nodes=4, min_nodes=3))
    assert "#SBATCH --nodes=3-4\n" in text
    assert "#SBATCH --ntasks-per-node" not in text  # with it Slurm gives three, however many wait
    assert "#SBATCH --nodes=4\n" in script(ClusterConfig(nodes=4, min_nodes=4))


def test_the_ranks_run_the_copy_with_its_configuration(tmp_path: Path) -> None:
    done = run(local(tmp_path, ClusterConfig(ranks_per_node=2)), tmp_path)
    main, folder = REPOSITORY / "sms_dist" / "start" / "__main__.py", tmp_path / "run"
    assert (
        f"<--nproc-per-node=2><--max-restarts=3><{main}>"
        f"<--config><{folder}/snapshot/config.yaml><--run-dir><{folder}>"
    ) in done.stdout


def test_two_jobs_on_a_host_have_two_ports(tmp_path: Path) -> None:
    assert "<10.0.0.1><20007>" in run(local(tmp_path), tmp_path).stdout
    assert "<10.0.0.1><20008>" in run(local(tmp_path), tmp_path, SLURM_JOB_ID="8").stdout
    fixed = local(tmp_path, ClusterConfig(port=29500))
    assert "<10.0.0.1><29500>" in run(fixed, tmp_path).stdout


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text: str, tmp_path: Path) -> None:
    cluster = ClusterConfig(modules=(text,), environment={"NOTE": text})
    (tmp_path / text).mkdir(parents=True)
    place = Place(tmp_path / text, tmp_path / text, text)
    script = local(tmp_path, cluster, place=place)
    done = run(script, tmp_path, MEANWHILE='printf "{%s}" "$NOTE" "$CODE" "$PYTHON" "$PWD"')
    assert f"module load {text}\n" in done.stdout
    assert f"{{{text}}}{{{tmp_path}/{text}}}{{{text}}}{{{tmp_path}/{text}}}" in done.stdout
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.parametrize("text", [*HOSTILE, "", "a b", "ä", "%x", "/x"])
def test_hostile_job_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^job_name=.* cannot stand in an #SBATCH line; use"):
        script(job_name=text)


@pytest.mark.parametrize("text", ["a b", "x\n#SBATCH --wrap=true", "$(x)", "%j", "a;b"])
def test_hostile_run_dir_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^run_dir=.* cannot stand"):
        script(run_dir=ME / text)
    with pytest.raises(ValueError, match=r"^run_dir=.* cannot stand"):
        array_script(
            ClusterConfig(), Place(ME, ME, "x"), Array(ME / text / "list", 2), job_name="x"
        )


@pytest.mark.parametrize("field", ["partition", "account", "qos", "memory"])
@pytest.mark.parametrize("text", ["x y", "x\n#SBATCH --wrap=true", "", "x#y", "'x'"])
def test_hostile_directive_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in an #SBATCH line"):
        script(ClusterConfig.model_validate({field: text}))


@pytest.mark.parametrize("line", ["constraint=a", "--a=b c", "--a=b\n#SBATCH --c", "-C a", "--"])
def test_hostile_extra_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="extra_sbatch="):
        script(ClusterConfig(extra_sbatch=(line,)))


@pytest.mark.parametrize("status", ["1", "2", "137"])
def test_a_failure_is_passed_on(status: str, tmp_path: Path) -> None:
    done = run(local(tmp_path), tmp_path, RESULT=status)
    assert (str(done.returncode), is_requeued(done)) == (status, False)


@pytest.mark.parametrize(("status", "requeued"), [("75", True), ("1", True), ("0", False)])
def test_the_signal_before_the_end_asks_the_ranks_and_requeues(
    status: str, requeued: bool, tmp_path: Path
) -> None:
    show = 'cat "$RUN_DIR/stop"'
    done = run(local(tmp_path), tmp_path, SIGNAL="USR1", RESULT=status, MEANWHILE=show)
    assert "asked by a job: 7, the time is nearly up" in done.stdout
    assert (str(done.returncode), is_requeued(done)) == (status, requeued)


def test_a_signal_while_the_ranks_are_started_is_no_later_than_any_other(tmp_path: Path) -> None:
    text = local(tmp_path).replace("\nranks=$!", "\nsleep 1; ranks=$!")
    done = run(text, tmp_path, SIGNAL="USR1", RESULT="75")
    assert (done.returncode, is_requeued(done)) == (75, True)


def test_ranks_that_slurm_has_stopped_itself_go_on_later(tmp_path: Path) -> None:
    assert is_requeued(run(local(tmp_path), tmp_path, RESULT="75"))


def test_a_stop_file_made_by_hand_ends_the_job(tmp_path: Path) -> None:
    touch = 'touch "$RUN_DIR/stop"'
    done = run(local(tmp_path), tmp_path, RESULT="75", MEANWHILE=touch)
    assert (done.returncode, is_requeued(done)) == (75, False)
    again = run(local(tmp_path), tmp_path, RESULT="0")  # was in the queue
    assert (again.returncode, "<" in again.stdout) == (75, False)
    assert f"stopped by {tmp_path}/run/stop: to go on remove it" in again.stdout


def test_a_signal_does_not_outdo_a_stop_file_made_by_hand(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    text = local(tmp_path).replace("srun --ntasks", 'touch "$STOP_FILE"; srun --ntasks')
    done = run(text, tmp_path, RESULT="75", SIGNAL="USR1")
    assert (done.returncode, is_requeued(done)) == (75, False)


def test_the_request_of_an_earlier_start_is_removed(tmp_path: Path) -> None:
    stop = tmp_path / "run" / "stop"
    stop.parent.mkdir()
    stop.write_text("asked by a job: 6, the time is nearly up\n")
    assert run(local(tmp_path), tmp_path).returncode == 0
    assert not stop.exists()


def test_a_cancelled_job_does_not_come_back(tmp_path: Path) -> None:
    done = run(local(tmp_path), tmp_path, SIGNAL="TERM", RESULT="75")
    assert (done.returncode, is_requeued(done)) == (75, False)


def test_a_job_whose_time_is_up_comes_back(tmp_path: Path) -> None:
    done = run(local(tmp_path), tmp_path, SIGNAL="TERM", RESULT="137", REASON="TimeLimit")
    assert (done.returncode, done.stdout.count("scontrol requeue 7\n")) == (137, 1)


def test_in_a_chain_the_next_job_goes_on(tmp_path: Path) -> None:
    text = local(tmp_path, is_requeued=False)
    assert "#SBATCH --no-requeue\n" in text
    done = run(text, tmp_path, SIGNAL="USR1", RESULT="75")
    assert (done.returncode, is_requeued(done)) == (75, False)


def test_a_run_that_is_done_since_its_submission_is_not_started(tmp_path: Path) -> None:
    logs = tmp_path / "run" / "logs"
    logs.mkdir(parents=True)
    summary = tmp_path / "run" / "summary.json"
    summary.touch()
    (logs / "job.sbatch").touch()  # submitted again, for example for further corruptions
    assert "<" in run(local(tmp_path), tmp_path).stdout
    summary.touch()
    done = run(local(tmp_path), tmp_path)
    assert (done.returncode, "<" in done.stdout) == (0, False)
    assert "the run is done" in done.stdout


def test_starts_that_bring_nothing_end(tmp_path: Path) -> None:
    requeued = [is_requeued(run(local(tmp_path), tmp_path, RESULT="75")) for _ in range(4)]
    assert requeued == [True, True, True, False]


def test_starts_that_bring_something_go_on(tmp_path: Path) -> None:
    point = tmp_path / "run" / "recovery" / "dense" / "a" / "rank_0.json"
    point.parent.mkdir(parents=True)
    for steps in range(5):
        document = {"identity": {}, "sha256": "", "document": {"steps": steps}}
        point.write_text(json.dumps(document))
        assert is_requeued(run(local(tmp_path), tmp_path, RESULT="75"))


def test_an_array_task_takes_its_line_of_the_list(tmp_path: Path) -> None:
    runs = tmp_path / "logs" / "array_1" / "runs.txt"
    runs.parent.mkdir(parents=True)
    runs.write_text(f"{tmp_path}/first\n{tmp_path}/second\n")
    place = Place(REPOSITORY, tmp_path, sys.executable)
    text = array_script(ClusterConfig(), place, Array(runs, 2, at_most=1), job_name="x")
    assert "#SBATCH --array=0-1%1\n" in text
    assert f"#SBATCH --output={runs.parent}/%x-%A_%a.log\n" in text
    second = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "1"}
    done = run(text, tmp_path, RESULT="75", **second)
    assert f"<{tmp_path}/second>" in done.stdout
    assert "scontrol requeue 5_1\n" in done.stdout
    beyond = run(text, tmp_path, SLURM_ARRAY_JOB_ID="5", SLURM_ARRAY_TASK_ID="2")
    assert beyond.returncode != 0
    assert "has no line in the list of runs" in beyond.stderr
