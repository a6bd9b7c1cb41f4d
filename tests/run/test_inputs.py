"""The files that a run is made of: which they are, and when they count as changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sms_dist.base.lookup import own, own_files, search_beside
from sms_dist.config import Config
from sms_dist.config import file as config_file
from sms_dist.run.inputs import changes, inputs_of
from sms_dist.run.schema import Input


def inputs(*settings: str, known: dict[str, Input] | None = None) -> dict[str, Input]:
    return inputs_of(config_file.load(settings=settings), known or {})


def test_a_configuration_without_files_has_no_inputs() -> None:
    assert inputs_of(Config(), {}) == {}


def test_a_file_counts_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "w.pt").write_bytes(b"weights")
        (folder / "history.json").write_text("{}")
    a, b = (inputs(f"pretrain.from={tmp_path / name / 'w.pt'}") for name in "ab")
    assert a.keys() == {"pretrain.from", "pretrain.from history.json"}
    assert changes(a, b) == []
    (tmp_path / "b" / "history.json").write_text("[]")
    b = inputs(f"pretrain.from={tmp_path / 'b' / 'w.pt'}")
    assert changes(a, b) == ["pretrain.from history.json has changed"]


def test_a_run_folder_counts_by_its_dense_model(tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / "weights.safetensors").write_bytes(b"weights")
    before = inputs(f"pretrain.from={tmp_path}")
    (tmp_path / "journal.jsonl").write_text("{}\n")
    assert (
        inputs(f"pretrain.from={tmp_path}") == before == inputs(f"pretrain.from={tmp_path}/dense")
    )


def test_a_file_that_nobody_touched_is_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "vocabulary.model"
    file.write_bytes(b"one")
    setting, times = f"data.vocabulary={file}", file.stat()
    known = inputs(setting)
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert inputs(setting, known=known) == known
    os.utime(file)
    assert changes(known, inputs(setting, known=known)) == ["data.vocabulary has changed"]


@pytest.mark.parametrize(
    ("change", "is_noticed"),
    [
        (lambda folder: (folder / "train.en").write_text("yes\n" * 70000), True),
        (lambda folder: (folder / "more.en").write_text("1"), True),
        (lambda folder: (folder / ".cache").mkdir(), False),
        (lambda folder: (folder / "deep" / "x").write_text("2"), True),
        (lambda folder: os.utime(folder / "train.en"), False),
    ],
)
def test_data_without_an_index_counts_by_its_files(tmp_path, change, is_noticed) -> None:
    (tmp_path / "train.en").write_text("one\n" * 70000)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x").write_text("1")
    setting = f"data.path={tmp_path}"
    known = inputs(setting)
    change(tmp_path)
    assert bool(changes(known, inputs(setting))) is is_noticed


def test_data_with_an_index_counts_by_index_and_card(tmp_path: Path) -> None:
    for name in ("index.json", "card.yaml", "train-0.tar"):
        (tmp_path / name).write_text("{}")
    setting = f"data.path={tmp_path}"
    known = inputs(setting)
    (tmp_path / "train-0.tar").write_text("the index has its sha256")
    assert changes(known, inputs(setting)) == []
    (tmp_path / "card.yaml").write_text("")
    assert changes(known, inputs(setting)) == ["data.path has changed"]


def test_corruptions_that_are_asked_for_later_are_no_change(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "fog.npy").write_text(name)
    a, b = (inputs(f"data.corruptions={tmp_path / name}") for name in "ab")
    assert changes(a, b) == []
    (tmp_path / "a" / "fog.npy").write_text("c")
    assert len(changes(a, inputs(f"data.corruptions={tmp_path / 'a'}"))) == 1


def test_files_in_the_options_of_a_model_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "config.json").write_text("{}")
    (tmp_path / "t5" / "README").write_text("no part of the model")
    (tmp_path / "x.npy").write_text("1")
    options = f"model.options={{folder: {tmp_path}/t5, files: [{tmp_path}/x.npy], word: relu}}"
    assert inputs(options).keys() == {"model.options.folder config.json", "model.options.files.0"}


def test_own_code_counts_with_what_it_has_not_imported_yet(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "entry_of_run.py").write_text("def f():\n    from pack.deep import g\n")
    (tmp_path / "pack" / "deep.py").write_text("from . import other\nimport json\n")
    (tmp_path / "pack" / "other.py").write_text("import entry_of_run, pack.missing")
    (tmp_path / "pack" / "unused.py").write_text("")
    search_beside(tmp_path / "x.yaml")
    own("entry_of_run:f", "x")
    files = own_files(["entry_of_run:f"])
    assert [*files] == ["entry_of_run.py", "pack/deep.py", "pack/other.py"]
    known = {"own code a.py": Input(sha256="1"), "pretrain.from": Input(sha256="2")}
    assert changes(known, {}) == ["own code a.py is gone"]
