"""Whole runs with a compiled model, in this process: close to eager ones, exact where it counts."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
import whole_run
from safetensors.torch import load_file

from sms_dist.engines import compiled as compiled_engine
from sms_dist.run.journal import read
from sms_dist.training import recovery
from sms_dist.training.compile_trial import Trial

SETTINGS = {  # 4 steps an epoch, of 27 and of 28 samples: code of two shapes
    "data": {"name": "digits", "train_samples": 122, "batch_size": 28},
    "model": {"options": {"width": 2}},
    "pretrain": {"epochs": 1},
    "retrain": {"epochs": 2},
    "pruning": {"phases": 1},
    "candidates": {"count": 2, "vary_seed": False},
    "records": {"tensorboard": False, "every_seconds": None},
}
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
    monkeypatch.setattr(recovery, "LOOK_SECONDS", 0.0)


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


@needs_compiler
def test_auto_keeps_what_it_found_in_the_run_folder_and_the_journal(tmp_path, eager, compiled):
    found = started(tmp_path, compile="auto")
    (event,) = [e for e in read(tmp_path / "journal.jsonl") if e.event == "compile"]
    chosen = event.compile
    assert json.loads((tmp_path / "compile.json").read_text()) == {"compile": chosen}
    assert event.steps.keys() == event.first.keys() == {"eager", "default"}
    assert found == {"eager": eager, "default": compiled}[chosen][1]


@needs_compiler
@pytest.mark.parametrize("mode", ["eager", "default"])
def test_what_auto_has_found_holds_for_later_starts(tmp_path, eager, compiled, mode):
    """A measurement might come out otherwise the next time."""
    (tmp_path / "compile.json").write_text(json.dumps({"compile": mode}))
    assert started(tmp_path, compile="auto") == {"eager": eager, "default": compiled}[mode][1]
    assert not [e for e in read(tmp_path / "journal.jsonl") if e.event == "compile"]


def test_without_a_compiler_auto_declines(tmp_path, eager, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert started(tmp_path, compile="auto") == eager[1]
    (event,) = [e for e in read(tmp_path / "journal.jsonl") if e.event == "compile"]
    assert event.compile == "eager"
    assert "no-such-compiler" in event.message


@pytest.mark.parametrize("engine", ["default", "auto"])
def test_without_a_compiler_what_was_asked_for_or_decided_is_refused(tmp_path, monkeypatch, engine):
    """Also by a later start on another host: eager steps would have other bits."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    (tmp_path / "compile.json").write_text('{"compile": "default"}')
    complaint = "engine.compile=default: it needs a compiler (no-such-compiler)"
    with pytest.raises(ValueError, match=re.escape(complaint)):
        started(tmp_path, compile=engine)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"compile": "max"}', "compile='max' should be 'eager', 'default' or 'reduce-overhead'"),
        ("{}", "compile"),
        ("[]", "is not a JSON object"),
    ],
)
def test_a_damaged_decision_is_named_and_kept(tmp_path, content, complaint):
    file = tmp_path / "compile.json"
    whole_run.check_named_and_kept(
        lambda: started(tmp_path, compile="auto"), file, content, complaint
    )


@needs_compiler
def test_more_shapes_than_code_is_made_for_are_refused(tmp_path, monkeypatch):
    """Beyond them PyTorch would go on without compiling, with bits that depend on what came first.

    The second shape is one too many here. That it comes to that shows as well that models made of
    torch's own layers are compiled: it passes over them where it can.
    """
    monkeypatch.setattr(compiled_engine, "MOST_SHAPES", 1)
    changes = {"model": {"name": f"{__name__}:linear"}}
    with pytest.raises(ValueError, match=r"engine.compile=default: this model cannot") as caught:
        started(tmp_path, changes=changes, compile="default")
    assert "\n" not in str(caught.value)


def linear(input_shape, num_classes):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, num_classes))


def test_what_is_faster_counts_what_the_first_step_takes():
    trial = Trial({"eager": 1.0, "default": 0.5}, {"eager": 1.0, "default": 100.0})
    assert [trial.best(num_steps) for num_steps in (10, 199, 201)] == ["eager", "eager", "default"]


def test_what_is_hardly_faster_is_not_worth_it():
    trial = Trial({"eager": 1.0, "default": 0.96}, {"eager": 1.0, "default": 0.0})
    assert trial.best(10**6) == "eager"


def test_a_mode_that_fails_on_some_rank_is_for_none():
    trial = Trial(
        {"eager": 1.0, "default": 0.9, "reduce-overhead": 0.1},
        dict.fromkeys(("eager", "default", "reduce-overhead"), 0.0),
    )
    left = trial.without({"reduce-overhead": "no room for its graphs"})
    assert left.best(1000) == "default"
    assert "no room for its graphs" in left.told
