"""`~` is the home folder in every key and option that is a path."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sms_dist.cli.main import cli
from sms_dist.cli.slurm.cluster import ClusterConfig
from sms_dist.config import file as config_file
from sms_dist.config.compare import flatten

KEYS = (
    *("records.root", "pretrain.from", "model.weights"),
    *("data.name", "data.path", "data.cache", "data.vocabulary", "data.corruptions"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("key", KEYS)
def test_it_is_home_in_a_key(key: str, home: Path) -> None:
    config = config_file.load(settings=[f"{key}=~/a b"])
    assert flatten(config.model_dump(by_alias=True))[key] == f"{home}/a b"
    for literal in ("a~/b", "$HOME/b", "./~"):
        config = config_file.load(settings=[f"{key}={literal}"])
        assert flatten(config.model_dump(by_alias=True))[key] == literal
    with pytest.raises(ValueError, match=rf"^{key} begins with ~nobody-here, .*; write the whole"):
        config_file.load(settings=[f"{key}=~nobody-here/b"])


def test_it_is_home_in_a_cluster_file(home: Path) -> None:
    assert ClusterConfig(venv="~/venv/bin/activate").venv == f"{home}/venv/bin/activate"


def test_it_is_home_in_options(home: Path) -> None:
    (home / "mine.yaml").write_text("nonsense: 1\n")
    for words in (
        ("plan", "--config=~/mine.yaml"),
        ("status", "~/runs"),
        ("export", "~/run", "--to=~/new"),
    ):
        ended = CliRunner().invoke(cli, words)
        assert ended.exit_code == 2
        named = "nonsense is not a key" if words[0] == "plan" else f"{home}/run"
        assert named in ended.output
    unknown = CliRunner().invoke(cli, ["status", "~nobody-here/runs"])
    assert "Invalid value" in unknown.output
    assert "begins with ~nobody-here, and" in unknown.output
