"""`sms-dist status`: what it makes of a run folder, whoever works in it and whatever is damaged."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from run_at_work import DONE, SECONDS, STEPS, RunAtWork

from sms_dist.cli.amounts import about, span
from sms_dist.cli.main import cli
from sms_dist.cli.status import LOCK, RunStatus, clock
from sms_dist.cli.status_screen import text
from sms_dist.run.journal import FaultEvent, StoppedEvent, WarningEvent
from sms_dist.run.lock import read

REPOSITORY = Path(__file__).resolve().parents[2]
PER_STEP = SECONDS / (2 * STEPS)


@pytest.fixture
def run(tmp_path):
    made = RunAtWork(tmp_path / "runs" / "sms")
    yield made
    if made.lock:
        made.lock.release()


def call(*arguments) -> Result:
    return CliRunner().invoke(cli, ["status", *map(str, arguments)])


def status_of(run) -> dict:
    return RunStatus(run.paths.root).as_json()


def left(run) -> tuple[float | None, float | None]:
    """Return the seconds until the phase and the run are done."""
    return RunStatus(run.paths.root).seconds_left


def state(run) -> tuple[str, int]:
    """Return the state and the exit status."""
    result = call(run.paths.root, "--json")
    return json.loads(result.stdout)["state"], result.exit_code


def test_a_run_at_work_at_one_glance(run) -> None:
    run.work()
    result = call(run.paths.root)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "digits_sms: sms on digits, digits_cnn"
    assert lines[1].startswith(f"state     running  at work: process {os.getpid()} on ")
    assert lines[2:6] == [
        "phase     2 of 2, sparsity 90.00%; candidates: 1 done, 2 at work, 2 to do",
        "left      this phase about 2 min, the run about 2 min",
        "groups    group 0  phase 2/2  candidate 1  retrain  epoch 1/2",
        "groups    group 1  phase 2/2  candidate 2  evaluate",
    ]
    assert "starts    2\n" in result.stdout
    assert "1 min ago  soup: phase 1: test accuracy 84.00%" in result.stdout
    assert "1 min ago  stopped: SIGTERM" in result.stdout


def test_the_json_has_these_keys(run) -> None:
    run.work()
    values = json.loads(call(run.paths.root, "--json").stdout)
    known = "run name method data model state reason last_sign phase num_groups groups seconds_left"
    known += " starts restarts jobs requeues events warnings faults damaged"
    assert [*values] == known.split()
    assert [*values["phase"]] == ["index", "num_phases", "sparsity", "done", "at_work", "to_do"]
    assert [*values["last_sign"]] == ["file", "age", "is_exact"]
    assert [*values["seconds_left"]] == ["phase", "run"]
    assert [*values["events"][0]] == ["event", "age", "text"]
    assert values["groups"]["0"]["stage"] == "retrain"


def test_on_a_terminal_it_fits_80_columns_and_nothing_is_cut(run) -> None:
    run.work()
    run.event(WarningEvent(phase=2, message="candidates drift apart " * 10))
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        console.print(text([RunStatus(run.paths.root)], is_one=True))
    shown = capture.get()
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.split().count("drift") == 10


def test_looking_changes_nothing(run) -> None:
    run.work()
    files = [path for path in run.paths.root.rglob("*") if path.name != LOCK]
    before = {path: path.stat().st_mtime_ns for path in files}
    call(run.paths.root)
    after = [path for path in run.paths.root.rglob("*") if path.name != LOCK]
    assert before == {path: path.stat().st_mtime_ns for path in after}


def test_a_process_that_was_killed_is_known_at_once(run) -> None:
    code = "import sys, pathlib; from sms_dist.run.lock import acquire\n"
    code += "lock = acquire(pathlib.Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(run.paths.lock)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as holder:
        holder.stdout.readline()
        assert state(run) == ("running", 0)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert state(run) == ("failed", 1)
    assert f"process {holder.pid} on " in status_of(run)["reason"]


def test_a_host_that_is_silent_counts_as_lost_after_its_limit(tmp_path) -> None:
    run = RunAtWork(tmp_path / "run", "engine.silence_seconds=1000")
    run.work()
    owner = json.loads(run.paths.lock.read_text())
    marker = run.paths.root / LOCK
    lease = marker.read_text()
    run.lock.release()
    marker.write_text(lease)
    run.paths.lock.write_text(json.dumps(owner | {"machine": "another", "host": "node9"}))
    run.age(600, [marker])
    assert state(run) == ("running", 0)
    run.age(600, [marker])
    assert state(run) == ("lost", 1)
    assert status_of(run)["reason"] == f"process {owner['pid']} on node9 is silent, 20 min"


def test_how_a_start_has_ended_is_status_of(run) -> None:
    assert state(run) == ("failed", 1)  # nobody has the lock, and nothing was said
    assert "without a word" in status_of(run)["reason"]
    run.event(FaultEvent(message="rank 3 on node2 was killed (SIGKILL)"))
    assert state(run) == ("failed", 1)
    assert status_of(run)["reason"] == "rank 3 on node2 was killed (SIGKILL)"
    run.start()
    run.work()
    assert state(run) == ("running", 0)
    run.paths.stop.touch()
    assert status_of(run)["reason"].startswith("at work, asked to stop: ")
    run.event(StoppedEvent(reason="the file stop"))
    assert status_of(run)["reason"].startswith("stopping, asked to stop: ")
    run.lock.release()
    assert state(run) == ("stopped", 75)
    assert status_of(run)["reason"] == "the file stop; the same command goes on"
    run.end(DONE)
    assert state(run) == ("done", 0)
    assert [event["event"] for event in status_of(run)["faults"]] == ["stopped", "fault", "stopped"]


def test_a_finished_run_that_starts_again_runs(run) -> None:
    run.end(DONE)
    run.age(100)
    run.paths.environment.touch()
    run.work()
    assert state(run) == ("running", 0)
    assert status_of(run)["reason"].startswith("starting: ")


def test_a_job_in_the_queue_waits_before_its_start_and_after_a_requeue(run, tmp_path) -> None:
    job = tmp_path / "runs" / "submitted"
    (job / "logs").mkdir(parents=True)
    (job / "logs" / "job.sbatch").touch()
    assert json.loads(call(job, "--json").stdout)["state"] == "not started"
    (job / "logs" / "jobs.jsonl").write_text('{"job": 81, "kind": "submitted"}\n')
    result = call(job, "--json")
    assert (json.loads(result.stdout)["state"], result.exit_code) == ("waiting", 0)
    run.start(SLURM_JOB_ID=81, SLURM_RESTART_COUNT=1)
    run.start(SLURM_JOB_ID=82, SLURM_RESTART_COUNT=0, TORCHELASTIC_RESTART_COUNT=1)
    run.paths.logs.mkdir()
    lines = '{"job": 81, "kind": "requeued"}\n{"job": "82", "kind": "requeued"}\n'
    (run.paths.logs / "jobs.jsonl").write_text(lines)
    found = status_of(run)
    assert (found["state"], found["jobs"], found["requeues"]) == ("waiting", ["81", "82"], 2)
    assert (found["starts"], found["restarts"]) == (4, 1)
    assert "4; 1 of them by torchrun; jobs 81, 82; requeued 2 times" in call(run.paths.root).stdout
    run.start()
    run.work()
    assert state(run) == ("running", 0)


def test_clocks_of_hosts_do_not_matter(run) -> None:
    """The journal was written by a host whose clock is five hours fast."""
    run.shift_events(5 * 3600)
    run.age(600)
    run.work()
    found = status_of(run)
    ages = [event["age"] for event in found["events"]]
    assert ages == sorted(ages, reverse=True)
    assert 600 <= ages[-1] < 660
    assert found["state"] == "running"
    assert found["last_sign"]["is_exact"]


def test_where_nothing_can_be_made_times_are_said_to_be_about() -> None:
    _, is_exact = clock(Path("/proc"))
    assert not is_exact


def test_what_is_left_is_steps_times_their_seconds_in_the_busiest_group(run) -> None:
    """Candidates 1 to 4 of the last phase, dealt in turn: group 0 has 1 and 3, group 1 2 and 4."""
    assert left(run)[0] == pytest.approx(PER_STEP * 2 * 2 * STEPS)
    run.work()
    # Group 0: 33 steps of candidate 1, and all of 3. Group 1: all of 4; 2 has trained.
    assert left(run) == pytest.approx([PER_STEP * (33 + 2 * STEPS)] * 2)


def test_a_later_phase_counts_too(run) -> None:
    for path in run.paths.soup(1).iterdir():
        path.unlink()  # phase 1 again, and all of phase 2
    assert left(run) == pytest.approx((0, PER_STEP * 3 * 2 * STEPS))


def test_candidates_of_a_pack_take_the_time_of_the_longest(tmp_path) -> None:
    """Packs of three candidates in two groups: 1, 2, 3 and 4."""
    run = RunAtWork(tmp_path / "run", "engine.name=packed", "engine.pack_size=3")
    run.paths.packing.write_text('{"num_groups": 2, "packing": "vmap"}')
    assert left(run)[0] == pytest.approx(PER_STEP * 2 * STEPS)


def test_nothing_is_promised_before_anything_was_measured(run) -> None:
    for place in RunStatus(run.paths.root).stored:
        (run.paths.candidate(*place) / "metrics.json").unlink()
    assert left(run) == (None, None)
    assert "left " not in call(run.paths.root).stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "not JSON"), (b'{"a": [', "not JSON"), (b"[" * 100_000, "not JSON"), (b"[]", "valid")],
)
def test_what_is_damaged_is_named_and_the_rest_told(run, content, words) -> None:
    run.work()
    for path in (run.paths.plan, run.paths.environment):
        path.write_bytes(content)
    (run.paths.progress / "group_1.json").write_bytes(content[:9])
    found = status_of(run)
    assert found["state"] == "running"
    assert found["groups"].keys() == {"0"}
    lines = dict(line.split(": ", 1) for line in found["damaged"])
    assert lines.keys() == {"plan.json", "environment.json", "progress/group_1.json"}
    assert words in lines["plan.json"]
    assert words in lines["environment.json"]


@pytest.mark.parametrize("wrong", [{"epoch": "two"}, {"stage": "lunch"}, {"surprise": 1}])
def test_a_group_that_tells_nonsense_is_named(run, wrong) -> None:
    run.work()
    path = run.paths.progress / "group_0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    assert status_of(run)["damaged"] == ["progress/group_0.json: cannot be read"]
    assert call(run.paths.root).exit_code == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run folder with a file of every kind, as a pattern."""
    run = RunAtWork(tmp_path_factory.mktemp("whole") / "run")
    run.work()
    run.paths.logs.mkdir()
    (run.paths.logs / "jobs.jsonl").write_text('{"job": "1", "kind": "start"}\n')
    yield run.paths.root
    run.lock.release()


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_damage_brings_it_down(whole, tmp_path_factory, data) -> None:
    """One file is cut short, or a stretch of it replaced."""
    folder = tmp_path_factory.mktemp("damaged")
    root = Path(shutil.copytree(whole, folder / "run"))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content)))
    junk = data.draw(st.sampled_from([b"", b"\0\xff", b"null", b"-1", b'"x"', b"{}", b"1e999"]))
    rest = content[place + data.draw(st.integers(0, 20)) :] if data.draw(st.booleans()) else b""
    path.write_bytes(content[:place] + junk + rest)
    results = [call(root), call(root, "--json"), call(folder)]
    assert all(result.exit_code in (0, 1, 75) for result in results), results[0].exc_info
    assert "state " in results[0].stdout


def test_several_runs_are_a_line_each(run, tmp_path) -> None:
    run.work()
    other = RunAtWork(tmp_path / "runs" / "imp", "method.name=imp")
    other.event(DONE)
    prepared = tmp_path / "runs" / "later" / "logs"
    prepared.mkdir(parents=True)
    (prepared / "job.sbatch").touch()
    result = call(tmp_path / "runs")
    assert result.exit_code == 0
    rows = [re.split(r"  +", line) for line in result.stdout.splitlines()]
    assert [Path(row[0]).name for row in rows[1:]] == ["imp", "later", "sms"]
    assert [row[1] for row in rows] == ["state", "done", "not started", "running"]
    assert rows[3][2:5] == ["2/2", "1/5", "about 2 min"]
    listed = json.loads(call(run.paths.root, other.paths.root, "--json").stdout)
    assert [document["state"] for document in listed] == ["running", "done"]
    run.end(StoppedEvent(reason="SIGTERM"))
    assert call(tmp_path / "runs").exit_code == 75
    other.event(FaultEvent(message="gone"))
    assert call(tmp_path / "runs").exit_code == 1


def test_no_run_there_is_bad_input(tmp_path) -> None:
    for folder, words in ((tmp_path / "gone", "no such folder"), (tmp_path, "no run in it")):
        result = call(folder)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert words in result.stderr


def test_watching_ends_with_the_run(run) -> None:
    run.work()
    command = [sys.executable, "-m", "sms_dist.cli.main", "status", str(run.paths.root), "--json"]
    with subprocess.Popen(
        [*command, "--watch", "--every", "0.1"], cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as watching:
        assert json.loads(watching.stdout.readline())["state"] == "running"
        run.end(DONE)
        last = json.loads(watching.stdout.read().splitlines()[-1])
        assert (last["state"], watching.wait(60)) == ("done", 0)


def test_whoever_stops_watching_gets_the_last_exit_status(run) -> None:
    run.work()
    command = [sys.executable, "-m", "sms_dist.cli.main", "status", str(run.paths.root), "--watch"]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell that runs the tests in the background has them ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as watching:
        watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.communicate(timeout=60)[1] == b""
        assert watching.returncode == 0


def test_it_needs_no_torch_and_no_data(run) -> None:
    code = f"""
import sys
from sms_dist.cli.main import cli
try:
    cli(["status", {str(run.paths.root)!r}])
except SystemExit as end:
    assert end.code == 1
assert not {{"torch", "numpy", "data"}} & sys.modules.keys()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_lock_is_read_as_it_is_written(run) -> None:
    run.work()
    assert read(run.paths.lock).pid == os.getpid()


def test_times_are_told_no_more_exactly_than_they_are_known() -> None:
    spoken = {0: "5 s", 43: "45 s", 58: "1 min", 754: "13 min", 7900: "2 h 10 min", 7200: "2 h"}
    spoken |= {3585: "1 h", 86_300: "1 d", 273_000: "3 d 4 h"}
    assert {seconds: about(seconds) for seconds in spoken} == {
        seconds: f"about {text}" for seconds, text in spoken.items()
    }
    assert [span(s) for s in (0.4, 59.9, 60, 3599, 3600, 7500, 86_400, 273_000)] == [
        *("0 s", "59 s", "1 min", "59 min", "1 h", "2 h 5 min", "1 d", "3 d 3 h")
    ]
