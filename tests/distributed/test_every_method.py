"""Every method on real processes: its run folder, its recovery, and the same bits on two groups."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from launching import (
    PROGRAMS,
    TINY,
    all_weights,
    launch_forked,
    mask,
    read_json,
    start_several,
    weights,
)

from sms_dist.config.file import load
from sms_dist.methods import METHODS, recipe

SETTINGS = {
    "lc": ("method.mu=0.01",),
    "dst": ("pruning.goal_sparsity=null", "method.alpha=1e-3"),
    "str": ("pruning.goal_sparsity=null", "method.initial=-3"),
}
WITH_SOUPS = ["imp_reprune", "swamp", "bimp_sms", "gmp_sms", "dpf_sms"]
RULES = ["dpf_sms", "gsm", "dnw", "lc", "dst", "str"]
NUM_PRUNABLE = 6152
SMALL = ("pretrain.epochs=6", "data.train_samples=720")


def settings(method, *more):
    return [f"method.name={method}", *SMALL, *SETTINGS.get(method, ()), *more]


def runs(folder, methods, *more):
    return {folder / method: settings(method, *more) for method in methods}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Every method, undisturbed, in one process."""
    folder = tmp_path_factory.mktemp("whole")
    start_several(runs(folder, METHODS), folder)
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory, whole):
    """Every method, killed in the middle (KILLS=every: after each folder); how often."""
    folder = tmp_path_factory.mktemp("killed")
    tasks = {
        str(path): {"settings": [*TINY, *words], "at": moments(whole / path.name)}
        for path, words in runs(folder, METHODS).items()
    }
    (folder / "tasks.json").write_text(json.dumps(tasks))
    finished = launch_forked(
        PROGRAMS / "killed_runs.py", [folder / "tasks.json"], folder, timeout=280
    )
    assert finished.status == 0, finished
    return folder, {Path(run).name: kills for run, kills in json.loads(finished.out).items()}


def moments(whole):
    """The numbers of finished folders at which a run is killed; it has so many in the end."""
    num = len(list(whole.glob("**/manifest.json")))
    return [*range(1, num)] if os.environ.get("KILLS") == "every" else [max(1, num // 2)]


@pytest.fixture(scope="module")
def two_groups(tmp_path_factory):
    """The methods that merge, on two groups, from pretraining on one rank."""
    folder = tmp_path_factory.mktemp("groups")
    start_several(runs(folder, WITH_SOUPS, "pretrain.ranks=1"), folder, ranks=2)
    return folder


@pytest.fixture(scope="module")
def shared_batches(tmp_path_factory):
    """Every sparse training rule with two ranks for a candidate, which share its batches."""
    folder = tmp_path_factory.mktemp("shared")
    start_several(runs(folder, RULES, "engine.ranks_per_candidate=2"), folder, ranks=2)
    return folder


def soups(run):
    return [run / f"phase_{p['phase']}" / "soup" for p in read_json(run / "summary.json")["phases"]]


@pytest.mark.parametrize("method", METHODS)
def test_the_run_folder_is_that_of_the_contract(whole, method):
    run = whole / method
    summary = read_json(run / "summary.json")
    asked = recipe(load(None, [*TINY, *settings(method)])).phases
    assert (summary["method"], len(summary["phases"])) == (method, len(asked))
    assert (run / "dense" / "weights.safetensors").is_file()
    names = set(weights(run / "dense"))
    for phase, found in zip(asked, summary["phases"], strict=True):
        soup = run / f"phase_{phase.index}" / "soup"
        assert set(weights(soup)) == names
        assert 0 <= found["soup"]["test_accuracy"] <= 1
        assert [c["index"] for c in found["candidates"]] == [c.index for c in phase.candidates]
        for candidate in phase.candidates:
            assert set(weights(soup.with_name(f"candidate_{candidate.index}"))) == names


@pytest.mark.parametrize("method", METHODS)
def test_soups_are_exactly_as_sparse_as_asked_for(whole, method):
    run = whole / method
    asked = recipe(load(None, [*TINY, *settings(method)])).phases
    for phase, soup in zip(asked, soups(run), strict=True):
        kept, tensors = mask(soup), weights(soup)
        assert sum(m.numel() for m in kept.values()) == NUM_PRUNABLE
        assert not any(tensors[name][~m].count_nonzero() for name, m in kept.items())
        num_kept = sum(int(m.sum()) for m in kept.values())
        if phase.sparsity is None:
            assert 0 < num_kept < NUM_PRUNABLE
        else:
            assert num_kept == NUM_PRUNABLE - round(phase.sparsity * NUM_PRUNABLE)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_killed_and_started_again_ends_in_the_same_bits(whole, killed, method):
    folder, kills = killed
    run = folder / method
    assert kills[method] == len(moments(run)) > 0 or method == "dense"
    assert all_weights(run) == all_weights(whole / method)
    assert (
        (read_json(run / "summary.json")["final"])
        == (read_json(whole / method / "summary.json")["final"])
    )


@pytest.mark.parametrize("method", WITH_SOUPS)
def test_two_groups_give_the_bits_of_one(whole, two_groups, method):
    assert len(all_weights(whole / method)) >= 4
    assert all_weights(whole / method) == all_weights(two_groups / method)


@pytest.mark.parametrize("method", RULES)
def test_two_ranks_of_a_candidate_train_as_one_would(whole, shared_batches, method):
    """Ranks of a group with different masks would have been an error; rounding differs."""
    one, two = (mask(folder / method / "phase_1" / "soup") for folder in (whole, shared_batches))
    both = sum(int((one[name] & two[name]).sum()) for name in one)
    either = sum(int((one[name] | two[name]).sum()) for name in one)
    assert both / either > 0.5  # unrelated masks of a tenth of the weights: 0.05


def test_the_runs_of_imp_reprune_have_masks_of_their_own_inside_that_of_the_phase_before(whole):
    run = whole / "imp_reprune"
    first = mask(run / "phase_1" / "soup")
    masks = [mask(run / "phase_2" / f"candidate_{i}") for i in range(3)]
    for kept in masks:
        assert not any((kept[name] & ~first[name]).any() for name in first)
        assert sum(int(m.sum()) for m in kept.values()) == NUM_PRUNABLE - round(0.9 * NUM_PRUNABLE)
    assert any(not torch.equal(masks[0][name], masks[1][name]) for name in first)


def test_the_soup_of_imp_reprune_is_the_mean_of_its_runs_where_it_survives(whole):
    run = whole / "imp_reprune" / "phase_2"
    runs = [weights(run / f"candidate_{i}") for i in range(3)]
    soup = weights(run / "soup")
    for name, kept in mask(run / "soup").items():
        mean = torch.stack([r[name].double() for r in runs]).mean(0).float()
        assert torch.equal(soup[name], torch.where(kept, mean, 0.0))


def test_swamp_starts_every_phase_from_the_kept_weights(whole):
    """Its first phase prunes the dense model's magnitudes, and trains the kept weights."""
    dense = read_json(whole / "swamp" / "dense" / "history.json")
    assert dense["kept_epoch"] == 5


def test_dpf_lets_pruned_weights_return(whole):
    first, second = (mask(whole / "dpf" / f"phase_{k}" / "soup") for k in (1, 2))
    assert any((second[name] & ~first[name]).any() for name in first)


def test_copies_of_dpf_are_averaged_dense_and_then_masked(whole):
    import safetensors.torch

    phase = whole / "dpf_sms" / "phase_2"
    dense = [
        safetensors.torch.load_file(phase / f"candidate_{i}" / "latent.safetensors")
        for i in range(3)
    ]
    soup = weights(phase / "soup")
    for name, kept in mask(phase / "soup").items():
        mean = torch.stack([d[name].double() for d in dense]).mean(0).float()
        assert torch.equal(soup[name], torch.where(kept, mean, 0.0))


def test_gradual_pruning_without_copies_is_one_training(whole):
    """Its phases begin where the last ended, and nothing that was pruned returns."""
    first, second = (mask(whole / "gmp" / f"phase_{k}" / "soup") for k in (1, 2))
    assert not any((second[name] & ~first[name]).any() for name in first)
