"""Other libraries' trainers keep masks exactly, and soups are the mean of what they have trained."""

from __future__ import annotations

import subprocess
import sys

import pytest
from launching import PROGRAMS, ROOT, launch_forked, read_json
from safetensors.torch import load_file

import sms_dist as sms

STEPS = {
    **{"ddp": 6, "resumed": 2, "bf16": 6, "model_init": 6},
    **{"zero": 6, "zero resumed": 2, "zero bf16": 6},
    **{"fit": 24, "fit resumed": 8, "fit bf16": 24, "fit swa": 32, "fit swa first": 32},
}
REFUSED = {
    "another mask": "/ddp/checkpoint-4 is of another mask; resume with its mask, or load its",
    "a tighter mask": "the checkpoint is of another mask: 34 pruned weights of net.0.weight are",
    "zero, a tighter mask": "the checkpoint is of another mask: 34 pruned weights of net.0.weight",
    "zero, model_init": "DeepSpeed has copied weights that HoldMask does not hold; give it to a new",
    "fit, another mask": "the checkpoint is of another mask; resume with its mask, or load its",
    "fit, sharded": "ModelParallelStrategy shards the weights, which hold cannot; use DDP or ZeRO",
    "one seed": "all candidates are equal: train(model, candidate) must take candidate.seed",
    "callback": "net.0.weight is held already; release that hold first",
    "zero, no engine": "DeepSpeed keeps the weights of this model; let train return the engine",
    "no batches": "batches=None, but a soup needs new running statistics for net.1; give training",
    "left": "train left its model as it was; it must train the one that it is given",
    "another": "train returned another model than the one that it was given",
    "falling": "sparsities=[0.7, 0.5] must be numbers in [0, 1) that do not fall, one for a phase",
    "none": "sparsities=[] must be numbers in [0, 1)",
    "no candidate": "candidates=0 must be a whole number of at least 1",
}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of 2 ranks found."""
    folder = tmp_path_factory.mktemp("callbacks")
    finished = launch_forked(PROGRAMS / "callbacks.py", [folder], folder, ranks=2, timeout=200)
    assert finished.status == 0, finished
    return read_json(folder / "found.json")


@pytest.mark.parametrize("case", STEPS)
def test_pruned_weights_are_zero_after_every_step_and_in_checkpoints(case, ranks):
    for found in (rank[case] for rank in ranks):
        assert found["steps"] == STEPS[case]
        assert found["not zero"] == [0, 0]
        assert found["kept"] == [88, 88]  # nothing else is
        assert all(saved == [0, True] for saved in found.get("saved", []))
    assert ranks[0][case]["bits"] == ranks[1][case]["bits"]
    assert ranks[0]["fit saved"] == 0
    assert len(ranks[0]["ddp"]["saved"]) == len(ranks[0]["zero"]["saved"]) == 3


@pytest.mark.parametrize("case", ["ddp", "zero", "fit"])
def test_resumed_training_ends_with_the_same_bits(case, ranks):
    resumed = "resumed" if case == "ddp" else f"{case} resumed"
    assert ranks[0][case]["bits"] == ranks[0][resumed]["bits"]


def test_zero_1_trains_what_data_parallel_training_does(ranks):
    pairs = zip(sum(ranks[0]["ddp"]["bits"], []), sum(ranks[0]["zero"]["bits"], []), strict=True)
    assert max(abs(a - b) for a, b in pairs) < 1e-6


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_go_wrong_unnoticed_is_refused(case, ranks):
    for rank in ranks:
        assert REFUSED[case] in rank[case]
        assert "\n" not in rank[case]


def test_training_that_breaks_off_releases_the_weights(ranks):
    assert [rank["stopped"] for rank in ranks] == ["stopped"] * 2  # and the program went on


@pytest.mark.parametrize("case", ["phases", "zero phases", "fit phases"])
def test_a_soup_of_trainers_is_the_mean_and_as_sparse(case, ranks):
    for rank in ranks:
        first, second = rank[case]
        for found, number, sparsity in ((first, 1, 0.5), (second, 2, 0.7)):
            assert found["number"] == number
            assert found["gap"] < 1e-7
            assert found["not zero"] == 0
            assert abs(found["sparsity"] - sparsity) <= 0.5 / 176
            assert found["types"][0] == "torch.float32"  # of bf16 training, too
        seeds = second["seeds"]
        assert len({*seeds}) == len(seeds)
        assert max(seeds) < 2**32
        assert seeds[: len(first["seeds"])] == first["seeds"]
    assert ranks[0][case] == ranks[1][case]


def test_a_candidate_that_diverges_is_left_out_and_named(ranks):
    for found in ranks[0]["fit phases"]:
        assert (found["coefficients"], found["diverged"]) == ([0, 2], [1])
    assert ranks[0]["phases"][0]["diverged"] == []


def test_the_statistics_of_a_soup_are_those_of_all_batches(ranks):
    assert all(rank["norms"] < 1e-6 for rank in ranks)


@pytest.mark.parametrize("name", ["trainer_text", "lightning_digits", "accelerate_loop"])
def test_the_example_writes_sparse_soups(name, tmp_path):
    finished = launch_forked(ROOT / "examples" / f"{name}.py", [tmp_path / "out"], tmp_path)
    assert finished.status == 0, finished
    goals = {"trainer_text": [0.7, 0.85], "lightning_digits": [0.85, 0.95]}
    before = None
    for k, goal in enumerate(goals.get(name, sms.sparsities(0.9, 2)), 1):
        folder, text = tmp_path / "out", name == "trainer_text"
        weights = load_file(folder / (f"soup_{k}/model" if text else f"soup_{k}")).copy()
