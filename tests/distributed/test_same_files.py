"""A run goes on only with the files that it began with, or as it was told to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
from forking import Ended, Runs
from launching import main_arguments

from sms_dist.config import ModelConfig
from sms_dist.models import build

NETS = """
from torch import nn

def build(input_shape, num_classes, *, width=4):
    from blocks import activation  # not before it is built
    first, last = nn.Conv2d(1, width, 3), nn.Linear(36 * width, num_classes)
    return nn.Sequential(first, activation(), nn.Flatten(), last)
"""
BLOCKS = "from torch import nn\n\ndef activation():\n    return nn.{}()\n"
CHANGE = "own code blocks.py has changed"


def contents(run: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("logs"))


def test_own_code_that_changed_is_refused_or_accepted_and_recorded(runs, tmp_path):
    (tmp_path / "my_nets.py").write_text(NETS)
    (tmp_path / "blocks.py").write_text(BLOCKS.format("ReLU"))
    config = tmp_path / "mine.yaml"
    config.write_text("model: {name: 'my_nets:build'}\n")
    run = tmp_path / "run"

    def start(*more: object) -> Ended:
        return runs.main(["--config", config, *main_arguments(run), *more], tmp_path)

    first = start()
    assert first.status == 0, first.err
    before = contents(run)
    (tmp_path / "blocks.py").write_text(BLOCKS.format("Tanh"))
    refused = start()
    assert (refused.status, contents(run)) == (2, before)
    (line,) = refused.err.splitlines()
    assert CHANGE in line
    assert "--accept-changes" in line
    assert start("--accept-changes").status == 0
    journal = (run / "journal.jsonl").read_text().splitlines()
    events = [json.loads(text) for text in journal]
    assert [e["message"] for e in events if e["event"] == "changes"] == [CHANGE]
    assert start().status == 0  # it is what the run is made of now
    (tmp_path / "blocks.py").write_text(BLOCKS.format("ReLU"))
    assert CHANGE in start().err


def test_weights_may_move_but_not_change(runs, tmp_path):
    def file(seed: int, name: str) -> Path:
        config = ModelConfig(options={"width": 8})
        model = build(config, (1, 8, 8), 10, seed=seed, data_name="digits")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        safetensors.torch.save_file(model.state_dict(), tmp_path / name)
        return tmp_path / name

    old = file(0, "init.safetensors")
    assert runs.run(tmp_path, f"model.weights={old}").status == 0
    (tmp_path / "other").mkdir()
    moved = Path(shutil.move(old, tmp_path / "other" / "weights.safetensors"))
    assert runs.run(tmp_path, f"model.weights={moved}").status == 0
    file(1, "other/weights.safetensors")
    assert runs.run(tmp_path, f"model.weights={old}").status == 0  # gone, and used up
    changed = runs.run(tmp_path, f"model.weights={moved}")
    assert changed.status == 2
    assert "another configuration (model.weights: " in changed.err
    copy = shutil.copy(moved, old)
    changed = runs.run(tmp_path, f"model.weights={copy}")
    assert changed.status == 2
    assert "model.weights has changed" in changed.err
