"""Frozen and unused parameters are pruned and else stay as they are, whatever trains the others."""

from __future__ import annotations

import shutil

import pytest
import torch
from launching import PROGRAMS, mask, start_several, weights

PAIR = "engine.ranks_per_candidate=2"
DEEPSPEED = (PAIR, "engine.name=deepspeed")
ENGINES = {
    "alone": (),
    "ddp": (PAIR,),
    "surviving": (PAIR, "engine.gradients=surviving"),
    "stacked": ("engine.name=packed", "engine.packing=vmap", "engine.pack_size=2"),
    "zero_0": DEEPSPEED,
    "zero_2": (*DEEPSPEED, "engine.zero_stage=2"),
    "zero_1_bf16": (*DEEPSPEED, "engine.zero_stage=1", "engine.precision=bf16"),
}
EXPERTS = {
    "experts": ("model.name=partly:experts",),
    "experts_pair": (PAIR, "model.name=partly:experts", "engine.conditional=true"),
}
SHARED = (
    *("model.name=partly:partly", "model.options={}", "pruning.phases=1", "pretrain.epochs=1"),
    *("pretrain.ranks=1", "pruning.goal_sparsity=0.5", "candidates.count=2", "soup.ensemble=false"),
    *("data.train_samples=256", "pretrain.clip_norm=null", "pretrain.learning_rate=0.02"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partly")
    shutil.copy(PROGRAMS / "partly.py", folder)  # processes start in here
    runs = {**ENGINES, **EXPERTS}
    start_several({folder / name: (*SHARED, *more) for name, more in runs.items()}, folder, 2)
    return folder


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_not_trained_keeps_its_values_but_for_the_mask(engine, folder):
    dense, phase = weights(folder / engine / "dense"), folder / engine / "phase_1"
    kept = mask(phase / "soup")
    for place in ("candidate_0", "candidate_1", "soup"):
        state = weights(phase / place)
        for name in ("frozen.weight", "frozen.bias", "unused.weight", "unused.bias"):
            wanted = dense[name] * kept[name] if name in kept else dense[name]
            assert torch.equal(state[name], wanted), name
        for name, flags in kept.items():
            assert not torch.count_nonzero(state[name][~flags]), name
        assert not torch.equal(state["gain"], dense["gain"])


@pytest.mark.parametrize("engine", EXPERTS)
def test_a_layer_that_some_steps_leave_out_is_trained(engine, folder):
    """A step on zeros, which all go to one expert, must not make the others unused."""
    dense, phase = weights(folder / engine / "dense"), folder / engine / "phase_1"
    kept = mask(phase / "soup")
    for i in range(3):
        name = f"experts.{i}.weight"
        trained = weights(phase / "candidate_0")[name]
        assert not torch.equal(trained[kept[name]], dense[name][kept[name]])


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "alone"])
def test_the_others_train_as_on_one_rank(engine, folder):
    tolerance = 5e-2 if "bf16" in engine else 1e-3
    for place in ("candidate_0", "candidate_1"):
        one, other = (weights(folder / e / "phase_1" / place) for e in ("alone", engine))
        for name, tensor in one.items():
            torch.testing.assert_close(other[name], tensor, rtol=tolerance, atol=tolerance)
