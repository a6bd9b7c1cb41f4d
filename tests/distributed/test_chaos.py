"""What the chaos tool (make chaos) would complain about is found."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest
import torch
from launching import ROOT

from sms_dist.run import store

sys.path.append(str(ROOT / "tests" / "trials"))

from inspection import damages, differences, fingerprint, newest_point, remains

WEIGHTS = {"weights.safetensors": {"w": torch.zeros(3)}}


@pytest.fixture
def run(tmp_path):
    """A run folder with dense weights and nothing else."""
    store.save(tmp_path / "run" / "dense", WEIGHTS, {"metrics.json": {}})
    return tmp_path / "run"


def write_point(slot, steps, content=b"tensors", sha256=None):
    """A recovery point of one rank."""
    slot.mkdir(parents=True, exist_ok=True)
    (slot / "rank_0.safetensors").write_bytes(content)
    told = {"sha256": sha256 or hashlib.sha256(content).hexdigest()}
    told["document"] = {"steps": steps, "ranks": 1}
    (slot / "rank_0.json").write_text(json.dumps(told))


def test_a_run_folder_that_is_whole_has_no_damages(run):
    assert damages(run) == []
    assert remains(run) == []


def test_a_model_with_other_bytes_than_its_manifest_says_is_found(run):
    (run / "dense" / "weights.safetensors").write_bytes(b"")
    (told,) = damages(run)
    assert told.endswith("weights.safetensors is not what manifest.json says")


def test_a_model_without_a_manifest_is_found(run):
    (run / "phase_1" / "candidate_0").mkdir(parents=True)
    assert any("candidate_0 has no manifest.json" in told for told in damages(run))


def test_a_torn_document_is_found(run):
    (run / "plan.json").write_text('{"phases": [')
    assert damages(run) == [f"{run / 'plan.json'} is not JSON"]


def test_the_newest_recovery_point_is_the_last_one_that_is_whole(run):
    training = run / "recovery" / "dense"
    write_point(training / "a", steps=5)
    write_point(training / "b", steps=10)
    assert newest_point(run, "dense")[0] == 10
    write_point(training / "b", steps=10, sha256="0")
    assert newest_point(run, "dense")[0] == 5
    assert damages(run) == []


def test_two_checkpoints_of_which_none_is_whole_are_found(run):
    for slot in "ab":
        write_point(run / "recovery" / "dense" / slot, steps=5, sha256="0")
    assert any("none is whole" in told for told in damages(run))


def test_what_is_left_over_is_found(run):
    (run / ".dense.12.tmp").mkdir()
    write_point(run / "recovery" / "dense" / "a", steps=5)
    told = "\n".join(remains(run))
    assert ".dense.12.tmp is left over" in told
    assert "recovery/dense/a/rank_0.json is left over" in told


def test_another_bit_in_the_dense_weights_is_a_difference(run):
    (run / "summary.json").write_text('{"seconds": 1.0, "final": {}}')
    reference = fingerprint(run)
    (run / "summary.json").write_text('{"seconds": 2.0, "final": {}}')
    assert differences(run, reference) == []  # times are not the same in every run
    path = run / "dense" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert differences(run, reference) == [
        "dense/weights.safetensors differs from the undisturbed run"
    ]
