"""Every kind of small configuration runs, an epoch of each training, on tiny data prepared as the
real. That all of them plan is in tests/cli/test_cli.py."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import downloads
import pytest
from click.testing import CliRunner
from launching import PROGRAMS, ROOT, free_ports, launch_forked, mask, read_json, weights

from sms_dist import data
from sms_dist.cli.main import cli
from sms_dist.config import Config
from sms_dist.config.file import load
from sms_dist.experiment.sizes import num_parameters, survivors

pytestmark = pytest.mark.timeout(700)

CONFIGS = {path.stem: path for path in sorted((ROOT / "configs").glob("*_small.yaml"))}
SCORES = {"classification": "accuracy", "segmentation": "miou", "translation": "bleu"}
SHORT = (
    "pretrain.epochs=1",
    "pretrain.warmup_epochs=0",
    "retrain.epochs=1",
    "pruning.phases=1",
    "candidates.count=2",
    "data.batch_size=8",
    "data.train_samples=16",
    "data.validation=0.25",
    "engine.device=cpu",
    "records.tensorboard=false",
)
ON_DIGITS = ("data.train_samples=660", "data.batch_size=128")
MORE = {
    "digits_distorted": ON_DIGITS,
    "camvid": ("data.size=[48, 64]",),
    "multi30k": ("data.vocabulary=bytes",),  # learning pieces takes more sentences
}
CORRUPTED = ("data.name=cifar10", "model.name=resnet20")  # of 20 test images, instead of 2,880
# Where a CPU has no instructions for it, a convolution in bf16 takes a hundred times as long as in
# fp32. These have few of them, and keep it.
IN_BF16 = ("maxvit_t", "t5")


def own_settings(name: str) -> Sequence[str]:
    config = load(CONFIGS[name])
    own = CORRUPTED if config.data.corruptions else MORE.get(config.data.name, ())
    return own if config.model.name in IN_BF16 else (*own, "engine.precision=fp32")


def short(name: str, *more: str) -> Config:
    return load(CONFIGS[name], [*SHORT, *own_settings(name), *more])


def runs_to_make() -> list[str]:
    """Of configurations that differ in no more than name and sparsity when they are short, one."""
    found: dict[str, str] = {}
    for name in CONFIGS:
        if "_t5_" not in name or find_spec("transformers"):
            alike = short(name, "name=any", "pruning.goal_sparsity=0.5")
            found.setdefault(alike.model_dump_json(), name)
    return list(found.values())


RUN = runs_to_make()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> dict[str, Path]:
    """Shards or texts of every set that the configurations name."""
    folder = tmp_path_factory.mktemp("prepared")
    for name, make in downloads.DOWNLOADS.items():
        make(folder / "downloads" / name)
        words = ["data", "prepare", name, "--from", folder / "downloads" / name, "--to"]
        done = CliRunner().invoke(cli, [*map(str, words), str(folder / name)])
        assert done.exit_code == 0, done.output
    for name in ("cifar10", "cifar100"):
        downloads.cifar_shards(name, folder / name)
    return {path.name: path for path in folder.iterdir() if path.name != "downloads"}


@pytest.fixture(scope="module")
def settings(prepared) -> dict[str, list[str]]:
    found = {}
    for name in RUN:
        data_name = short(name).data.name
        place = (f"data.path={prepared[data_name]}",) if data_name in prepared else ()
        found[name] = [*SHORT, *own_settings(name), *place]
    return found


def write_example(folder: Path) -> Path:
    """The files of docs/models.md, "A model of your own", and shards for its card."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    _, section = page.split("## A model of your own")
    for name, text in re.findall(r"```\w+\n# (\S+)\n(.*?)```", section, re.DOTALL):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    downloads.leaves(folder / "shards" / "leaves")
    words = ["data", "index", str(folder / "shards" / "leaves")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    return folder / "leaves.yaml"


@pytest.fixture(scope="module")
def runs(settings, tmp_path_factory):
    """The run folders of all of them, which one process made one after the other."""
    folder = tmp_path_factory.mktemp("runs")
    todo = {name: (CONFIGS[name], settings[name]) for name in RUN}
    todo["example"] = (write_example(folder), SHORT)
    listed = [
        {"config": str(path), "folder": str(folder / name), "settings": words, "port": port}
        for (name, (path, words)), port in zip(todo.items(), free_ports(len(todo)), strict=True)
    ]
    (folder / "runs.json").write_text(json.dumps(listed))
    words = [folder / "runs.json"]
    finished = launch_forked(PROGRAMS / "configured_runs.py", words, folder, timeout=680)
    assert finished.status == 0, finished
    yield folder
    shutil.rmtree(folder)  # a gigabyte of weights


@pytest.mark.parametrize("name", RUN)
def test_a_small_configuration_runs_and_measures_what_its_task_wants(runs, settings, name):
    config = load(CONFIGS[name], settings[name])
    summary = read_json(runs / name / "summary.json")
    score = SCORES[data.info(config.data).task]
    assert summary["score"] == score
    (phase,) = summary["phases"]
    for document in (summary["final"], phase["soup"], *phase["candidates"]):
        assert math.isfinite(document[f"test_{score}"])
    assert len(phase["candidates"]) == len({each["seed"] for each in phase["candidates"]}) == 2
    assert ("ood" in summary) == (config.data.corruptions is not None)


@pytest.mark.parametrize("name", RUN)
def test_a_small_configuration_keeps_exactly_the_weights_it_says(runs, settings, name):
    config = load(CONFIGS[name], settings[name])
    info = data.info(config.data)
    soup = runs / name / "phase_1" / "soup"
    kept, tensors = mask(soup), weights(soup)
    goal = config.pruning.goal_sparsity
    num_prunable, _ = num_parameters(config, info)
    assert sum(m.numel() for m in kept.values()) == num_prunable
    num_kept = sum(int(m.sum()) for m in kept.values())
    if config.pruning.pattern == "unstructured":
        assert num_kept == num_prunable - round(goal * num_prunable)
    assert num_kept == survivors(config, info)(goal)
    assert not any(tensors[n][~m].count_nonzero() for n, m in kept.items())


def test_sub_groups_are_measured_where_a_configuration_names_them(runs):
    small = read_json(runs / "table_15_small" / "summary.json")["final"]
    assert {"test_recall_animals", "test_recall_on_wheels", "test_recall_others"} <= small.keys()
    faces = read_json(runs / "celeba_resnet18_small" / "summary.json")["final"]
    assert "test_recall_Male-Blond_Hair" in faces


def test_corruptions_are_measured_of_dense_model_candidates_and_soup(runs):
    ood = read_json(runs / "table_13_small" / "summary.json")["ood"]
    assert ood.keys() == {"dense", "phase_1/soup", "phase_1/candidate_0", "phase_1/candidate_1"}
    for document in ood.values():
        assert len(document["accuracies"]) == 15
        assert all(len(severities) == 5 for severities in document["accuracies"].values())


def test_the_model_of_ones_own_in_the_documentation_runs_on_shards_of_ones_own(runs):
    summary = read_json(runs / "example" / "summary.json")
    assert math.isfinite(summary["final"]["test_accuracy"])
    kept = mask(runs / "example" / "phase_1" / "soup")
    num_prunable = 9 * (3 * 24 + 24 * 48 + 48 * 96) + 96 * 3
    assert sum(m.numel() for m in kept.values()) == num_prunable
    assert sum(int(m.sum()) for m in kept.values()) == num_prunable - round(0.9 * num_prunable)
