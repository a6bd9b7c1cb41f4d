"""Facts about entering a run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.run.paths import RunPaths
from sms_dist.run.run_folder import enter, environment, open_run
from sms_dist.run.schema import Start


def begun(host: str = "one") -> Start:
    return Start(
        started="2026-01-01T00:00:00+00:00",
        command="main.py",
        host=host,
        cpus=None,
        devices=(),
        versions={},
        commit=None,
        world={},
    )


def test_a_new_run_gets_its_configuration_and_environment(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "runs" / "x")
    assert open_run(paths, Config(seed=3), begun("one")) is False
    assert config_file.load(paths.config) == Config(seed=3)
    assert json.loads(paths.environment.read_text()) == {"starts": [begun("one").as_json()]}


def test_a_second_start_is_a_resume_and_adds_its_environment(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    open_run(paths, Config(), begun("one"))
    assert open_run(paths, Config(), begun("two")) is True
    starts = json.loads(paths.environment.read_text())["starts"]
    assert [start["host"] for start in starts] == ["one", "two"]


def test_a_resume_forgets_where_the_groups_were(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    open_run(paths, Config(), begun())
    paths.progress.mkdir()
    (paths.progress / "group_0.json").write_text("{}")
    open_run(paths, Config(), begun())
    assert not paths.progress.exists()


def test_another_configuration_is_refused_with_its_keys_and_the_way_out(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    open_run(paths, Config(), begun())
    other = config_file.load(settings=["seed=7", "pruning.phases=5"])
    with pytest.raises(ValueError) as error:
        open_run(paths, other, begun())
    message = str(error.value)
    assert str(tmp_path) in message
    assert "pruning.phases: 3 -> 5; seed: 0 -> 7" in message
    assert "--run-dir" in message
    assert config_file.load(paths.config) == Config()


def test_another_name_of_the_same_experiment_is_no_difference(tmp_path: Path) -> None:
    open_run(RunPaths(tmp_path), Config(), begun())
    assert open_run(RunPaths(tmp_path), Config(name="moved"), begun()) is True


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"no config.yaml.*--run-dir"):
        open_run(RunPaths(tmp_path), Config(), begun())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_refused_start_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"no config.yaml"):
        enter(RunPaths(tmp_path), Config(), begun(), print)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_start_holds_the_lock_until_it_releases_it(tmp_path: Path) -> None:
    lock, is_resume = enter(RunPaths(tmp_path), Config(), begun(), print)
    assert not is_resume
    with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"):
        enter(RunPaths(tmp_path), Config(), begun(), print)
    lock.release()
    lock, is_resume = enter(RunPaths(tmp_path), Config(), begun(), print)
    assert is_resume
    lock.release()


def test_a_start_that_died_before_its_first_file_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / ".config.yaml.12.tmp").write_text("nam")
    assert open_run(RunPaths(tmp_path), Config(), begun()) is False


def test_a_configuration_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sede: 1\n")
    with pytest.raises(ValueError, match=r"cannot be read \(sede is not a key"):
        open_run(RunPaths(tmp_path), Config(), begun())


def test_a_damaged_environment_file_is_named(tmp_path: Path) -> None:
    open_run(RunPaths(tmp_path), Config(), begun())
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(ValueError, match=r"environment.json is damaged; remove it"):
        open_run(RunPaths(tmp_path), Config(), begun())


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/run cannot be used: Not a directory; .*--run-dir"):
        open_run(RunPaths(tmp_path / "file" / "run"), Config(), begun())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named_with_the_reason(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="permission denied"):
        open_run(RunPaths(tmp_path / "run"), Config(), begun())


def test_the_environment_tells_what_a_number_was_made_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    found = json.loads(json.dumps(environment().as_json()))
    assert found["versions"]["torch"]
    assert found["world"]["WORLD_SIZE"] == "4"
    assert found["command"].split()[0].endswith(Path(sys.executable).name)
    assert found.keys() >= {"started", "host", "cpus", "devices", "commit"}


def test_the_environment_needs_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment().commit is None


def test_entering_a_run_folder_imports_no_torch() -> None:
    code = "import sys, sms_dist.run.run_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
