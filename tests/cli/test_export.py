"""sms-dist export: from a run folder to a model that others load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from sms_dist.base.lookup import search_beside
from sms_dist.cli.main import cli
from sms_dist.config import Config, ModelConfig
from sms_dist.config import file as config_file
from sms_dist.export.folder import load
from sms_dist.models import build
from sms_dist.pruning.filters import companions, keep_filters
from sms_dist.pruning.mask import apply_, full_mask, prunable_names
from sms_dist.run import store
from sms_dist.run.paths import MASK, METRICS, WEIGHTS, RunPaths
from sms_dist.run.schema import ModelMetrics, PhaseMetrics

SHAPE = (1, 12, 12)
SPARSITIES = {1: 0.4, 2: 0.6}


def call(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as filter pruning leaves it."""
    paths = RunPaths(tmp_path_factory.mktemp("runs") / "run")
    config = Config()
    model = build(config.model, SHAPE, 10, seed=0, data_name="digits_distorted")
    state = model.state_dict()
    store.save(paths.dense, {WEIGHTS: state}, {METRICS: {"test_accuracy": 0.9}})
    paths.config.write_text(config_file.dump(config))
    mask = full_mask(state, prunable_names(model))
    for phase, sparsity in SPARSITIES.items():
        mask = keep_filters(state, mask, sparsity)
        apply_(state, companions(model, mask))
        metrics = PhaseMetrics(
            phase=phase,
            sparsity=sparsity,
            score="accuracy",
            soup=ModelMetrics(metrics={"test_accuracy": 0.8 - phase / 8}),
            candidates=(),
        )
        store.save(paths.soup(phase), {WEIGHTS: state, MASK: mask}, {METRICS: metrics.as_json()})
    return paths.root


def soup(run: Path, phase: int) -> dict[str, torch.Tensor]:
    return store.load_tensors(RunPaths(run).soup(phase), WEIGHTS)


def description(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "model.json").read_text()))


def test_the_last_soup_is_exported_as_it_is(run: Path, tmp_path: Path) -> None:
    result = call(run, "--to", tmp_path / "model")
    assert result.exit_code == 0, result.output
    assert "digits_cnn, sparsity 0.6, test accuracy 55.00%" in result.output
    loaded, wanted = load(tmp_path / "model").state_dict(), soup(run, 2)
    assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)
    said = description(tmp_path / "model")
    assert (said["sparsity"], said["test_score"], said["is_shrunk"]) == (0.6, 0.55, False)
    assert said["score"] == "accuracy"


@pytest.mark.parametrize(("phase", "accuracy"), [(0, 0.9), (1, 0.675)])
def test_a_phase_is_exported_by_its_number_and_the_dense_model_by_0(
    run: Path, tmp_path: Path, phase: int, accuracy: float
) -> None:
    assert call(run, "--phase", phase, "--to", tmp_path / "model").exit_code == 0
    assert description(tmp_path / "model")["test_score"] == pytest.approx(accuracy)


def test_a_shrunk_model_is_smaller_and_computes_the_same(run: Path, tmp_path: Path) -> None:
    result = call(run, "--to", tmp_path / "small", "--shrink")
    assert result.exit_code == 0, result.output
    call(run, "--to", tmp_path / "whole")
    small, whole = load(tmp_path / "small"), load(tmp_path / "whole")
    sizes = [sum(p.numel() for p in model.parameters()) for model in (whole, small)]
    assert sizes[1] < sizes[0] / 4
    assert f"parameters  {sizes[0]:,} -> {sizes[1]:,}" in result.output
    assert "MACs        850,816 -> " in result.output
    assert "outputs     differ by" in result.output
    assert description(tmp_path / "small")["is_shrunk"] is True
    images = torch.randn(6, *SHAPE)
    with torch.no_grad():
        assert torch.allclose(small(images), whole(images), atol=1e-5)


def test_where_nothing_can_be_removed_that_is_said(run: Path, tmp_path: Path) -> None:
    result = call(run, "--phase", 0, "--to", tmp_path / "model", "--shrink")
    assert result.exit_code == 0, result.output
    assert "no channel is zero throughout" in result.output
    assert "pruning.pattern=filters" in result.output
    assert description(tmp_path / "model")["is_shrunk"] is False


def test_mistakes_are_one_line_and_status_2(run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    new = tmp_path / "new"
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.yaml").write_text("seed: 1\n")
    mistakes: dict[str, tuple[str | Path | int, ...]] = {
        "is no run folder: it has no config.yaml": (tmp_path / "none", "--to", new),
        "has no finished phase yet": (empty, "--to", new),
        "--phase 7 is not finished in": (run, "--phase", 7, "--to", new),
        "finished: 0, 1, 2": (run, "--phase", 3, "--to", new),
        "is there already; name a new folder": (run, "--to", tmp_path / "full"),
        f"--to {tmp_path}/full/file/x: Not a directory": (run, "--to", tmp_path / "full/file/x"),
    }
    for message, arguments in mistakes.items():
        result = call(*arguments)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    assert not new.exists()


def test_damaged_weights_are_refused(run: Path, tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    config = config_file.load(RunPaths(run).config)
    store.save(paths.dense, {WEIGHTS: soup(run, 1)}, {METRICS: {"test_accuracy": 0.9}})
    paths.config.write_text(config_file.dump(config))
    (paths.dense / WEIGHTS).write_bytes(b"x")
    result = call(paths.root, "--to", tmp_path / "new")
    assert result.exit_code == 2
    assert "differs from its checksum" in result.stderr


CHOOSY = """
from torch import nn

class Choosy(nn.Sequential):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)

def choosy(input_shape, num_classes):
    return Choosy(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(400, num_classes))

def sigmoid(input_shape, num_classes):
    last = nn.Linear(400, num_classes)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sigmoid(), nn.Flatten(), last)
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("choosy", "Choosy decides on them by the values"),
        ("sigmoid", "goes where channels are not"),
    ],
)
def test_what_cannot_be_shrunk_stays_dense_and_is_named(
    name: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "choosy_nets.py").write_text(CHOOSY)
    search_beside(tmp_path / "x.yaml")
    paths, config = (
        RunPaths(tmp_path / "run"),
        Config(model=ModelConfig(name=f"choosy_nets:{name}")),
    )
    state = build(config.model, SHAPE, 10, seed=0, data_name="x").state_dict()
    state["0.weight"][:2] = state["0.bias"][:2] = 0
    store.save(paths.dense, {WEIGHTS: state}, {METRICS: {"test_accuracy": 0.9}})
    paths.config.write_text(config_file.dump(config))
    result = call(paths.root, "--to", tmp_path / "new", "--shrink")
    assert result.exit_code == 0, result.output
    assert f"{reason} " in next(s for s in result.output.splitlines() if s.startswith("unchanged"))
    assert "dense       rows of zeros stay in 0.weight" in result.output
    assert torch.equal(load(tmp_path / "new").state_dict()["0.weight"], state["0.weight"])
