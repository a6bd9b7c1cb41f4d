"""Runs that begin with sparse weights: these stay pruned, and sparsities begin where they are."""

from __future__ import annotations

import shutil

import pytest
import safetensors.torch
import torch
from forking import Runs
from launching import all_weights, main_arguments, mask, read_json, start_several, weights

from sms_dist.base.weights_file import load
from sms_dist.cli.plan import planned
from sms_dist.config.file import load as load_config
from sms_dist.pruning.mask import Mask

GOAL = ("pruning.goal_sparsity=0.95", "candidates.count=2")


def prunable(state):
    return [name for name, tensor in state.items() if tensor.ndim > 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sparse_start")


@pytest.fixture(scope="module")
def given(folder, dense_run):
    """A folder with trained weights, 90 % of them zero, and their history."""
    state, place = load(dense_run), folder / "given"
    cut = torch.cat([state[n].flatten().abs() for n in prunable(state)]).quantile(0.9)
    pruned = {n: state[n].masked_fill(state[n].abs() < cut, 0) for n in prunable(state)}
    place.mkdir()
    safetensors.torch.save_file(state | pruned, place / "weights.safetensors")
    shutil.copy(dense_run / "dense" / "history.json", place)
    return place


@pytest.fixture(scope="module")
def runs(folder, given):
    """name -> the folder of a run on two ranks."""
    start = f"pretrain.from={given}"
    names = ("sms", "from_soup", "imp_reprune", "dense")
    found = {name: folder / "runs" / name for name in names}
    settings = {
        "sms": [start, "pretrain.mask=zeros", *GOAL],
        # a phase of a run: its mask and its history are found
        "from_soup": [f"pretrain.from={found['sms'] / 'phase_1'}", "pruning.goal_sparsity=0.97"],
        "imp_reprune": [start, "pretrain.mask=zeros", *GOAL, "method.name=imp_reprune"],
        "dense": [start, "pretrain.mask=zeros", "method.name=dense"],
    }
    start_several({found[name]: settings[name] for name in names}, folder, ranks=2, timeout=240)
    return found


def test_sparsities_are_geometric_from_the_start_and_masks_only_tighten(runs, given):
    first = {n: t != 0 for n, t in weights(given).items() if t.ndim > 1}
    start = Mask(first).sparsity
    for run, begin, goal in (
        (runs["sms"], start, 0.95),
        (runs["imp_reprune"], start, 0.95),
        (runs["from_soup"], 1 - ((1 - start) * 0.05) ** 0.5, 0.97),
    ):
        halfway = 1 - ((1 - begin) * (1 - goal)) ** 0.5
        summary = read_json(run / "summary.json")
        assert [p["sparsity"] for p in summary["phases"]] == pytest.approx(
            [halfway, goal], abs=1e-4
        )
        assert summary["dense"]["sparsity"] == pytest.approx(begin, abs=1e-4)
        masks = [mask(run / part) for part in ("dense", "phase_1/soup", "phase_2/soup")]
        for looser, tighter in zip([first, *masks], masks, strict=False):
            assert all(bool((looser[name] | ~tighter[name]).all()) for name in tighter)
        for part in ("dense", "phase_1/candidate_0", "phase_2/candidate_1", "phase_2/soup"):
            state = weights(run / part)
            assert all(not state[name][~first[name]].any() for name in first), part
    assert mask(runs["from_soup"] / "dense").keys() == first.keys()
    stored, soup = mask(runs["from_soup"] / "dense"), mask(runs["sms"] / "phase_1" / "soup")
    assert all(torch.equal(stored[name], soup[name]) for name in soup)


def test_without_phases_the_result_is_as_sparse_as_the_start(runs):
    assert read_json(runs["dense"] / "summary.json")["final"]["sparsity"] == pytest.approx(
        0.9, abs=1e-3
    )


def test_the_plan_is_that_of_the_run(runs, given):
    words = (f"pretrain.from={given}", "pretrain.mask=zeros", *GOAL, "pruning.phases=2")
    shown = planned(load_config(None, ["data.name=digits", "model.options.width=8", *words]))
    recorded = read_json(runs["sms"] / "plan.json")["phases"]
    assert [p.phase.sparsity for p in shown.plan.phases] == [
        p["phase"]["sparsity"] for p in recorded
    ]
    assert shown.start == pytest.approx(0.9, abs=1e-3)
    assert "sparse" in shown.notes[0]


def test_a_run_goes_on_without_the_file_that_it_was_given(runs, given, folder):
    run, moved = shutil.copytree(runs["sms"], folder / "again" / "run"), folder / "moved"
    for name in ("phase_2", "summary.json"):
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    given.rename(moved)
    try:
        words = (f"pretrain.from={given}", "pretrain.mask=zeros", *GOAL)
        ended = Runs(folder / "logs").run(run.parent, *words)
    finally:
        moved.rename(given)
    assert ended.status == 0, ended
    assert all_weights(run) == all_weights(runs["sms"])


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (
            {},
            [],
            "exactly zero; set pretrain.mask=zeros to keep these pruned, or pretrain.mask=none",
        ),
        (
            {},
            ["pretrain.mask=zeros", "pruning.goal_sparsity=0.5"],
            "pruning.goal_sparsity=0.5 is below the 89.98",
        ),
        ({"fc.weight": torch.nan}, ["pretrain.mask=none"], "has 1 of"),
    ],
)
def test_what_cannot_begin_is_refused_by_run_and_plan(given, folder, change, words, message):
    state, place = load(given), folder / "bad"
    shutil.copytree(given, place, dirs_exist_ok=True)
    name = prunable(state)[-1]
    for value in change.values():
        state[name].view(-1)[:1] = value
        message = f"{name} has 1 of {state[name].numel():,} values that are NaN or infinite"
    safetensors.torch.save_file(state, place / "weights.safetensors")
    words = [f"pretrain.from={place}", *words]
    with pytest.raises(ValueError, match=r"^p") as caught:
        planned(load_config(None, ["data.name=digits", "model.options.width=8", *words]))
    assert message in str(caught.value)
    refused = main_arguments(folder / "refused", *words)
    ended = Runs(folder / "logs").main(refused, folder / "refused")
    assert ended.status == 2, ended
    assert ended.err.splitlines() == [f"error: {caught.value}"]
    assert not (folder / "refused").exists()
    assert ended.out == ""
