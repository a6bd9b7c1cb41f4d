"""Cluster files: what is wrong in one is told in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sms_dist.cli.slurm.cluster import ClusterConfig, load_cluster, seconds

README = Path(__file__).resolve().parents[2] / "slurm" / "README.md"


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
        ("{nodes: 2, min_nodes: 3}", "min_nodes=3 is more than nodes=2"),
        (
            "time_limit: '2'",
            "signal_seconds_before_end=120 must be less than time_limit='2', which is 120 seconds",
        ),
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90 * 60),
        ("1:30", 90),
        ("01:00:00", 3600),
        ("1-0", 86400),
        ("1-12:30", 86400 + 12 * 3600 + 30 * 60),
        ("2-00:00:01", 2 * 86400 + 1),
    ],
)
def test_times_are_read_as_slurm_reads_them(text: str, expected: int) -> None:
    assert seconds(text) == expected


def test_no_limit_leaves_any_time_to_stop() -> None:
    assert ClusterConfig(time_limit="0").time_limit == "0"


def test_the_readme_has_every_key() -> None:
    rows = [line for line in README.read_text().splitlines() if line.startswith("| `")]
    named = {key for row in rows for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named >= set(ClusterConfig.model_fields)
