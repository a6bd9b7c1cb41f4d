"""Whole runs with a compiled model, in this process: close to eager ones, exact where it counts."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
import torch
import torch._dynamo
import whole_run
from safetensors.torch import load_file

from sms_dist.engines import compile_mode
from sms_dist.engines import compiled as compiled_engine
from sms_dist.engines.compiled import GRAPHS, check_compiler
from sms_dist.training import checkpoints

SETTINGS = {  # 4 steps an epoch, of 27 and of 28 samples: code of two shapes
    "data": {"name": "digits", "train_samples": 122, "batch_size": 28},
    "model": {"options": {"width": 2}},
    "pretrain": {"epochs": 1},
    "retrain": {"epochs": 2},
    "pruning": {"phases": 1},
    "candidates": {"count": 2, "vary_seed": False},
    "records": {"tensorboard": False, "every_seconds": None},
}
CPU = torch.device("cpu")
SOUP = "phase_1/soup/weights.safetensors"
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, and there is no g++"
)


def started(folder, steps=-1, changes=None, **engine):
    """One start, as in a process that has compiled nothing yet: hashes by file; None: stopped."""
    torch.compiler.reset()
    settings = {**SETTINGS, **(changes or {}), "engine": engine}
    return whole_run.started(settings, folder, steps)[0]


@pytest.fixture(autouse=True)
def looks_after_every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "LOOK_SECONDS", 0.0)


@pytest.fixture(scope="module")
def eager(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eager")
    return folder, started(folder)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    return folder, started(folder, compile="default")


@needs_compiler
def test_compiled_training_comes_close_to_eager(eager, compiled):
    one, other = (load_file(folder / SOUP) for folder, _ in (eager, compiled))
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=1e-4)
    assert eager[1][SOUP] != compiled[1][SOUP], "nothing was compiled, it seems"


@needs_compiler
def test_what_is_pruned_is_exactly_zero(compiled):
    folder, _ = compiled
    mask = load_file(folder / "phase_1/soup/mask.safetensors")
    for i in range(2):
        weights = load_file(folder / f"phase_1/candidate_{i}/weights.safetensors")
        for name, kept in mask.items():
            assert not torch.count_nonzero(weights[name][~kept]), name
            assert torch.count_nonzero(weights[name][kept]), name


@needs_compiler
def test_equal_candidates_have_equal_bits(compiled):
    """The first one waited for the compiler, the second one took over its code."""
    _, found = compiled
    one, other = (found[f"phase_1/candidate_{i}/weights.safetensors"] for i in range(2))
    assert one == other


@needs_compiler
@pytest.mark.parametrize("steps", [3, 8, 14])
def test_a_stopped_run_comes_to_the_same_end(tmp_path, compiled, steps):
    """In pretraining; in the first candidate, after both shapes; in the second one."""
    assert started(tmp_path, steps, compile="default") is None
    assert started(tmp_path, compile="default") == compiled[1]


def test_auto_is_eager_on_a_cpu_and_stays_auto_in_the_configuration(tmp_path, eager):
    assert started(tmp_path, compile="auto") == eager[1]
    assert [compile_mode("auto", device) for device in ("cpu", "cuda")] == ["eager", "default"]
    assert {compile_mode(mode, "cpu") for mode in GRAPHS} == set(GRAPHS)


@pytest.mark.parametrize(("device", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_without_a_compiler_no_run_starts_that_needs_one(monkeypatch, device, variable):
    """Its eager steps would have other bits."""
    monkeypatch.setenv(variable, "no-such-compiler")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)  # triton
    complaint = r"engine.compile=default: it needs a compiler \(no-such-compiler\).*=eager$"
    with pytest.raises(ValueError, match=complaint):
        check_compiler("default", torch.device(device))
    check_compiler("eager", torch.device(device))
    check_compiler("auto", CPU)


def test_without_triton_nothing_is_compiled_for_cuda(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^engine.compile=auto: it needs triton.*=eager$"):
        check_compiler("auto", torch.device("cuda"))


@needs_compiler
def test_more_shapes_than_code_is_made_for_are_refused(tmp_path, monkeypatch):
    """Beyond them PyTorch would go on without compiling, with bits that depend on what came first.

    The second shape is one too many here. That it comes to that shows as well that models made of
    torch's own layers are compiled: it passes over them where it can.
    """
    monkeypatch.setattr(compiled_engine, "MAX_SHAPES", 1)
    changes = {"model": {"name": f"{__name__}:linear"}}
    refused = pytest.raises(ValueError, match=r"engine.compile=default: this model cannot")
    # Other tests compile in this process, too: the setting is put back.
    settings = torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True)
    with settings, refused as caught:
        started(tmp_path, changes=changes, compile="default")
    assert "\n" not in str(caught.value)


def linear(input_shape, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))
