"""`sms-dist report`: runs found, files written, mistakes in one line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sms_dist.cli.main import cli
from sms_dist.config import file as config_file
from sms_dist.run.paths import find_runs

REPOSITORY = Path(__file__).resolve().parents[2]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["report", *(str(argument) for argument in arguments)])


def refusal(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")
    return result.stderr.splitlines()[-1]


def write(folder: Path, accuracy: float, *settings: str, is_done: bool = True) -> Path:
    """A run with one phase, as far as a report reads it."""
    found = ("data.name=digits", "pruning.phases=1", "candidates.count=2", *settings)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config_file.dump(config_file.load(None, found)))
    candidates = [{"index": i, "seed": i, "test_accuracy": accuracy - 0.01} for i in (0, 1)]
    soup = {
        "event": "soup",
        "phase": 1,
        "sparsity": 0.9,
        "score": "accuracy",
        "surviving_weights": 10,
        "soup": {"test_accuracy": accuracy},
        "candidates": candidates,
        "best_candidate": accuracy - 0.01,
        "mean_candidate": accuracy - 0.01,
    }
    events = [{"event": "dense", "test_accuracy": 0.9}, soup, *([{"event": "done"}] * is_done)]
    (folder / "journal.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (0, 1):
        write(tmp_path / "runs" / f"sms_seed{seed}", 0.8 + seed / 50, f"seed={seed}")
    write(tmp_path / "runs" / "deeper" / "imp", 0.7, "method.name=imp")
    return tmp_path / "runs"


def test_runs_are_found_below_a_folder_and_below_a_run(runs: Path) -> None:
    write(runs / "imp_again", 0.7, "method.name=imp")
    inner = write(runs / "imp_again" / "seed5", 0.7, "seed=5")
    write(runs / "imp_again" / "phase_1" / "not_a_run", 0.7)
    assert inner in find_runs(runs)
    assert len(find_runs(runs)) == 5


def test_a_table_is_printed_in_the_wanted_form(runs: Path) -> None:
    shown = call(runs, "--table", "1", "--format", "markdown").stdout
    assert "| SMS (uniform) | **81.00 ± 1.41** |" in shown
    assert "| IMP | 70.00 (n=1) |" in shown
    assert "accuracy of" in call(runs, "--table", "1").stdout
    assert r"\begin{tabular}" in call(runs, "--table", "1", "--format", "latex").stdout
    rows = list(csv.reader(call(runs, "--format", "csv").stdout.splitlines()))
    assert [row[0] for row in rows] == ["method", "SMS (uniform)", "IMP"]


def test_every_form_is_written_into_a_folder(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call(runs, "--table", "1", "--out", out)
    names = [f"table_1.{suffix}" for suffix in ("txt", "md", "tex", "csv")]
    assert [Path(line).name for line in result.stdout.splitlines()] == names
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    write(runs / "other", 0.5, "data.name=digits_distorted")
    result = call(runs, "--table", "1", "--out", out, "--format", "csv")
    assert result.stdout.split() == [str(out / f"table_1_{n}.csv") for n in (1, 2)]
    assert "note: 2 settings, one table each: the runs differ in data.name" in result.stderr


def test_figures_are_written_beside_the_tables(runs: Path, tmp_path: Path) -> None:
    result = call(runs, "--plot", "--out", tmp_path / "out", "--format", "csv")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"table_methods.csv", "figure_3.png", "figure_3.svg"}
    assert "note: figure 4a is not drawn: it needs" in result.stderr


def test_figures_alone_go_into_the_folder_report(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(runs, "--plot")
    assert result.stdout.endswith("report/figure_3.png\nreport/figure_3.svg\n")
    assert "digits_cnn on digits" in result.stdout


def test_damaged_runs_are_named_and_left_out(runs: Path) -> None:
    (runs / "deeper" / "imp" / "journal.jsonl").write_text("{\n{}\n")
    broken = write(runs / "broken", 0.5, "seed=7")
    (broken / "config.yaml").write_text("a: [")
    result = call(runs, "--table", "1", "--format", "csv")
    assert result.exit_code == 0
    notes = [line for line in result.stderr.splitlines() if "left out, damaged" in line]
    assert [
        str(runs / name) in note for name, note in zip(("broken", "deeper"), notes, strict=True)
    ]
    assert "IMP" not in result.stdout


def test_mistakes_are_one_line(runs: Path, tmp_path: Path) -> None:
    assert "there is no such folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "there is no run in it" in refusal(tmp_path / "empty")
    assert "--table=3 is not known" in refusal(runs, "--table", "3")
    assert "--format=pdf is not known" in refusal(runs, "--format", "pdf")
    assert "--table 2 is made of runs with a method of bimp_sms" in refusal(runs, "--table", "2")
    (tmp_path / "file").touch()
    assert "file: file exists" in refusal(runs, "--out", tmp_path / "file")
    begun = write(tmp_path / "begun", 0.5, "method.name=imp", is_done=False)
    assert "is made of finished runs" in refusal(begun)
    assert "give no figure" in refusal(begun, "--table", "1", "--plot", "--out", tmp_path / "out")


def test_tables_need_neither_torch_nor_matplotlib(runs: Path) -> None:
    code = f"""
import sys
from sms_dist.cli.main import cli
try:
    cli(["report", {str(runs)!r}, "--table", "1"])
except SystemExit as end:
    assert not end.code
assert not {{"torch", "matplotlib"}} & sys.modules.keys()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_other_verbs_and_help_are_quick_and_import_no_pandas(runs: Path) -> None:
    code = f"""
import sys
from sms_dist.cli.main import cli
for words in (["--help"], ["report", "--help"], ["status", {str(runs / "sms_seed0")!r}]):
    try:
        cli(words)
    except SystemExit:
        pass
assert not {{"pandas", "torch", "matplotlib"}} & sys.modules.keys()
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("library", "words"), [("pandas", ()), ("matplotlib", ("--plot",))])
def test_a_library_that_is_missing_is_named_with_the_way_to_install_it(
    library: str, words: tuple[str, ...], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("sms_dist.reports")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    assert f"needs {library}, which is not installed; pip install 'sms_dist[reports]'" in refusal(
        runs, *words
    )
