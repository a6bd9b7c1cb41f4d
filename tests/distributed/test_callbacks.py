"""Trainers of other libraries keep masks exactly; soups are the mean of what they have trained."""

from __future__ import annotations

import importlib
import re
import sys
from itertools import chain

import pytest
import torch
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
    "zero, model_init": "DeepSpeed has copied weights that HoldMask does not hold; give it to a",
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
def test_pruned_weights_are_zero_after_every_step(case, ranks):
    for found in (rank[case] for rank in ranks):
        assert found["steps"] == STEPS[case]
        assert found["not zero"] == [0, 0]
        assert found["kept"] == [88, 88]  # nothing else is
    assert ranks[0][case]["bits"] == ranks[1][case]["bits"]


def test_checkpoints_are_sparse_and_have_the_mask(ranks):
    assert ranks[0]["ddp"]["saved"] == ranks[0]["zero"]["saved"] == [[0, True]] * 3
    assert ranks[0]["fit saved"] == 0


@pytest.mark.parametrize("case", ["ddp", "zero", "fit"])
def test_resumed_training_ends_with_the_same_bits(case, ranks):
    resumed = "resumed" if case == "ddp" else f"{case} resumed"
    assert ranks[0][case]["bits"] == ranks[0][resumed]["bits"]


def test_zero_1_trains_what_data_parallel_training_does(ranks):
    ddp, zero = (torch.tensor([*chain(*ranks[0][case]["bits"])]) for case in ("ddp", "zero"))
    assert torch.allclose(ddp, zero, atol=1e-6)


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


EXAMPLES = {  # name -> sparsities, whether each soup is at least that good
    "trainer_text": ([0.7, 0.85], lambda soup, dense: soup < dense),  # losses
    "lightning_digits": ([0.85, 0.95], lambda soup, dense: soup > dense - 0.05),
    "accelerate_loop": (sms.sparsities(0.9, 2), lambda soup, dense: soup > dense - 0.1),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_writes_sparse_soups(name, tmp_path):
    finished = launch_forked(ROOT / "examples" / f"{name}.py", [tmp_path / "out"], tmp_path)
    assert finished.status == 0, finished
    sparsities, is_good = EXAMPLES[name]
    dense, *soups = map(float, re.findall(r"(?:dense|soup,.*): (?:loss )?(0\.\d+)", finished.out))
    assert len(soups) == len(sparsities)
    assert all(is_good(soup, dense) for soup in soups)
    looser = None
    for k, sparsity in enumerate(sparsities, 1):
        places = [f"soup_{k}/model", f"soup_{k}/mask"]
        if name != "trainer_text":
            places = [f"soup_{k}", f"mask_{k}"]
        weights, mask = (tmp_path / "out" / f"{place}.safetensors" for place in places)
        state, kept = load_file(weights), sms.Mask.load(mask)
        assert abs(kept.sparsity - sparsity) * kept.num_weights <= 0.51
        assert not any(state[n][~flags].any() for n, flags in kept.items())
        assert all(state[n].any() for n in kept)
        assert looser is None or not any((flags & ~looser[n]).any() for n, flags in kept.items())
        looser = kept


@pytest.mark.parametrize("library", ["transformers", "lightning"])
def test_a_library_that_is_missing_is_named_with_what_to_install(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"sms_dist.callbacks.{library}", raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(f"sms_dist.callbacks.{library}")
    wanted = f"{library} is not installed; pip install 'sms_dist[{library}]'"
    assert str(caught.value) == wanted
