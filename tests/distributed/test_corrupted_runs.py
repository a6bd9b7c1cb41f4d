"""A finished run is measured on corrupted images when it is asked for, once, on any ranks."""

from __future__ import annotations

import json
import shutil

import pytest
from launching import all_weights, read_json, start

from sms_dist.data.corruptions import BENCHMARK, SEVERITIES

SETTINGS = (
    "pruning.phases=1",
    "candidates.count=2",
    "data.subgroups={small: ['0', '1', '2', '3', '4'], large: ['5', '6', '7', '8', '9']}",
)
GENERATED = "data.corruptions=generated"
PLACES = ["dense", "phase_1/soup"]


def events(run, name):
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Finished without corruptions, then measured by one rank."""
    folder = tmp_path_factory.mktemp("corrupted") / "run"
    finished = start(folder, *SETTINGS, ranks=2)
    assert finished.status == 0, finished
    before = all_weights(folder)
    finished = start(folder, *SETTINGS, GENERATED)
    assert finished.status == 0, finished
    assert all_weights(folder) == before
    return folder


def test_every_model_is_measured_under_every_corruption_and_severity(run):
    told = events(run, "ood")
    assert [event["where"] for event in told] == PLACES
    for event in told:
        assert event["accuracies"].keys() == set(BENCHMARK)
        assert {len(found) for found in event["accuracies"].values()} == {len(SEVERITIES)}
        values = [value for found in event["accuracies"].values() for value in found]
        assert event["ood_accuracy"] == pytest.approx(sum(values) / len(values))
        assert len(set(values)) > 10  # not one number told seventy-five times
        assert event["corruptions"] == "generated"


def test_the_summary_has_what_was_measured_later(run):
    told = {event["where"]: event["ood_accuracy"] for event in events(run, "ood")}
    summary = read_json(run / "summary.json")
    assert {where: found["ood_accuracy"] for where, found in summary["ood"].items()} == told


def test_corruptions_do_harm(run):
    for event, phase in zip(events(run, "ood"), ("dense", "soup"), strict=True):
        summary = read_json(run / "summary.json")
        clean = summary["dense"] if phase == "dense" else summary["phases"][0]["soup"]
        assert event["ood_accuracy"] < clean["test_accuracy"]


def test_what_is_measured_already_is_not_measured_again_and_other_ranks_find_the_same(
    run, tmp_path
):
    again = tmp_path / "again"
    shutil.copytree(run, again)
    (again / "corruptions" / "fog.json").unlink()
    kept = again / "corruptions" / "snow.json"
    kept.write_text(kept.read_text().replace('"dense": [', '"dense": [0.125, ').replace(",\n", ","))
    marked = read_json(kept)
    finished = start(again, *SETTINGS, GENERATED, ranks=2)
    assert finished.status == 0, finished
    fog = "corruptions/fog.json"
    assert read_json(again / fog) == read_json(run / fog)
    assert read_json(kept) == marked
    assert [event["where"] for event in events(again, "ood")] == PLACES * 2  # told by each start


def test_a_damaged_file_of_measurements_is_named(run, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (broken / "corruptions" / "fog.json").write_text("{")
    finished = start(broken, *SETTINGS, GENERATED)
    assert finished.status != 0
    assert "fog.json is damaged; remove it, it will be measured again" in finished.err
    assert "Traceback" not in finished.err


def test_the_recall_of_subgroups_is_measured_of_dense_candidates_and_soup(run):
    summary = read_json(run / "summary.json")
    (phase,) = summary["phases"]
    for found in (summary["dense"], phase["soup"], *phase["candidates"]):
        recalls = [found["test_recall_small"], found["test_recall_large"]]
        assert found["test_worst_subgroup_recall"] == min(recalls)
        assert found["test_balanced_subgroup_recall"] == pytest.approx(sum(recalls) / 2)
