"""Whole runs with stacks, in this process: what they leave behind, stopped or not."""

from __future__ import annotations

import json

import pytest
import torch
import whole_run

from sms_dist.run.journal import read
from sms_dist.stacks.choice import Trial
from sms_dist.training import checkpoints

SETTINGS = {
    "data": {"name": "digits", "train_samples": 120, "batch_size": 24},
    "model": {"options": {"width": 2}},
    "pretrain": {"epochs": 1},
    "pruning": {"phases": 2},
    "candidates": {"vary": {"epochs": [2, 3, 1]}},
    "records": {"tensorboard": False, "every_seconds": None},
}


def started(folder, steps=-1, changes=None, **engine):
    """(weights by file, control) of one start; the weights are None where it was stopped."""
    return whole_run.started({**SETTINGS, **(changes or {}), "engine": engine}, folder, steps)


@pytest.fixture(autouse=True)
def looks_after_every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "LOOK_SECONDS", 0.0)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    return folder, *started(folder, name="packed", packing="vmap")


def test_a_run_with_stacks_leaves_what_any_run_leaves(packed):
    folder, found, control = packed
    wanted = {f"phase_{k}/candidate_{i}/weights.safetensors" for k in (1, 2) for i in range(3)}
    assert wanted <= found.keys()
    assert "phase 1, candidates 0, 1, 2" in control.marks
    documents = [json.loads((folder / f"phase_1/candidate_{i}/metrics.json").read_text())
                 for i in range(3)]  # fmt: skip
    assert [len(document["epochs"]) for document in documents] == [2, 3, 1]
    assert all(not document["diverged"] for document in documents)
    assert not (folder / "recovery").exists()


def test_what_was_decided_is_in_the_run_folder_and_the_journal(packed):
    folder, _, _ = packed
    assert json.loads((folder / "packing.json").read_text()) == {
        "num_groups": 1,
        "packing": "vmap",
    }
    (event,) = [e for e in read(folder / "journal.jsonl") if e.event == "packing"]
    assert event.candidates == 3
    assert event.together > 0
    assert event.one_by_one > 0


@pytest.mark.parametrize("steps", [3, 12, 26])
def test_a_run_that_is_stopped_in_a_stack_comes_to_the_same_end(tmp_path, packed, steps):
    """In the first epoch of all; when one of them has ended; in the second phase, after half."""
    dense_steps = 5
    stopped, _ = started(tmp_path, dense_steps + steps, name="packed", packing="vmap")
    assert stopped is None
    assert started(tmp_path, name="packed", packing="vmap")[0] == packed[1]


def test_one_after_another_is_what_ddp_does_to_the_bit(tmp_path):
    plain, _ = started(tmp_path / "ddp")
    assert started(tmp_path / "loop", name="packed", packing="loop")[0] == plain


def test_what_auto_has_found_holds_for_later_starts(tmp_path, packed):
    """A measurement might come out otherwise the next time."""
    for packing in ("vmap", "loop"):
        folder = tmp_path / packing
        folder.mkdir()
        decided = {"num_groups": 1, "packing": packing}
        (folder / "packing.json").write_text(json.dumps(decided))
        found, _ = started(folder, name="packed")
        assert not [e for e in read(folder / "journal.jsonl") if e.event == "packing"]
        assert (found == packed[1]) is (packing == "vmap")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"num_groups": 1, "packing": "maybe"}', "packing='maybe' should be 'vmap' or 'loop'"),
        ('{"num_groups": 0}', "num_groups=0 should be greater than or equal to 1"),
        ('{"packing": "vmap"}', "num_groups"),
        ("[]", "is not a JSON object"),
        ('{"num_groups": 1, "pack": 3}', "pack is not a key"),
    ],
)
def test_a_damaged_decision_is_named_and_kept(tmp_path, content, complaint):
    file = tmp_path / "packing.json"
    whole_run.check_named_and_kept(
        lambda: started(tmp_path, name="packed"), file, content, complaint
    )


def test_a_model_with_dropout_is_trained_one_after_another(tmp_path):
    """vmap cannot draw at each candidate's own address; asked for it, it says so."""
    changes = {"model": {"name": f"{__name__}:with_dropout"}}
    found, _ = started(tmp_path / "auto", changes=changes, name="packed")
    assert "phase_2/soup/weights.safetensors" in found
    (event,) = [e for e in read(tmp_path / "auto/journal.jsonl") if e.event == "packing"]
    assert event.packing == "loop"
    assert "random" in event.message
    with pytest.raises(ValueError, match="cannot take the steps of several candidates together"):
        started(tmp_path / "vmap", changes=changes, name="packed", packing="vmap")


def with_dropout(input_shape, num_classes):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, num_classes)
    )


@pytest.mark.parametrize(
    ("together", "is_worth_it"), [(0.94, True), (0.96, False), (2.0, False), (None, False)]
)
def test_candidates_train_together_only_where_that_is_clearly_faster(together, is_worth_it):
    trial = Trial(together, 1.0, "" if together else "random")
    assert trial.is_worth_it is is_worth_it
    assert ("impossible (random)" in trial.message) is (together is None)
