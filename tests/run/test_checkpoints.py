"""Recovery points on disk: written in turn, checked when found, never half there."""

from __future__ import annotations

import json

import pytest
import torch

from sms_dist.run.checkpoint_files import RankCheckpoints, forget

IDENTITY = {"seed": 3, "mask": "abc"}


def tensors(value):
    return {"own.weight": torch.full((4,), float(value))}


def written(folder, *steps, rank=0, identity=IDENTITY):
    points = RankCheckpoints(folder, rank, identity)
    for number in steps:
        points.write(tensors(number), {"steps": number, "ranks": 1})
    points.finish()
    return points


def test_the_last_two_points_are_there(tmp_path):
    points = written(tmp_path / "dense", 10, 20, 30)
    found = points.find(0)
    assert sorted(found) == [20, 30]
    for number, point in found.items():
        assert torch.equal(points.load(point)["own.weight"], tensors(number)["own.weight"])
        assert point.document == {"steps": number, "ranks": 1}


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "no manifest", "no json"])
def test_a_point_that_is_damaged_is_not_found_and_the_one_before_is(tmp_path, damage):
    points = written(tmp_path / "dense", 10, 20)
    path = points.find(0)[20].path
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        path.unlink()
    elif damage == "no manifest":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text('{"identity"')
    assert sorted(RankCheckpoints(tmp_path / "dense", 0, IDENTITY).find(0)) == [10]


def test_a_point_of_another_training_is_not_found(tmp_path):
    written(tmp_path / "dense", 10)
    assert RankCheckpoints(tmp_path / "dense", 0, {**IDENTITY, "mask": "xyz"}).find(0) == {}


def test_each_rank_has_a_file_of_its_own(tmp_path):
    written(tmp_path / "dense", 10, rank=0)
    points = written(tmp_path / "dense", 10, 20, rank=1)
    assert sorted(points.find(0)) == [10]
    assert sorted(points.find(1)) == [10, 20]
    assert points.find(2) == {}


def test_going_on_never_writes_over_the_point_it_came_from(tmp_path):
    """The newest may lie in either folder, and the other one may be damaged."""
    for steps in ([10], [10, 20], [10, 20, 30]):
        folder = tmp_path / str(len(steps))
        written(folder, *steps)
        points = RankCheckpoints(folder, 0, IDENTITY)
        points.go_on_from(points.find(0)[steps[-1]])
        points.write(tensors(99), {"steps": 99, "ranks": 1})
        points.finish()
        assert sorted(points.find(0)) == [steps[-1], 99]


def test_what_cannot_be_written_is_told_by_the_thread_that_trains(tmp_path):
    (tmp_path / "dense").write_text("a file where a folder has to be")
    points = RankCheckpoints(tmp_path / "dense", 0, IDENTITY)
    points.write(tensors(1), {"steps": 1, "ranks": 1})
    with pytest.raises((OSError, ValueError), match="dense"):
        points.finish()
    points.finish()  # told once


def test_a_tensor_of_a_type_that_no_file_holds_is_told_as_well(tmp_path):
    points = written(tmp_path / "dense", 10)
    points.write({"own.weight": torch.zeros(1, dtype=torch.complex128)}, {"steps": 20, "ranks": 1})
    with pytest.raises(ValueError, match=r"^own.weight is of torch.complex128"):
        points.finish()
    assert sorted(points.find(0)) == [10]
    assert [path.name for path in (tmp_path / "dense" / "b").iterdir()] == []


def test_the_manifest_is_readable_by_people(tmp_path):
    written(tmp_path / "dense", 10)
    manifest = json.loads((tmp_path / "dense" / "a" / "rank_0.json").read_text())
    assert manifest["identity"] == IDENTITY
    assert manifest["document"]["steps"] == 10
    assert len(manifest["sha256"]) == 64


def test_a_finished_training_leaves_nothing(tmp_path):
    written(tmp_path / "recovery" / "dense", 10)
    forget(tmp_path / "recovery" / "dense")
    assert list((tmp_path / "recovery").iterdir()) == []
    forget(tmp_path / "recovery" / "dense")
