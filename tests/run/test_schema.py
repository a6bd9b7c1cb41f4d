"""The records of runs: recorded files are read, and written again with the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sms_dist.base.files import finite, json_text
from sms_dist.run import journal, schema
from sms_dist.run.journal import EVENTS, OtherEvent, event_type

RECORDED = Path(__file__).parent / "recorded"
KINDS = {
    "summary": schema.Summary,
    "plan": schema.PlanFile,
    "dense": schema.DenseMetrics,
    "soup": schema.PhaseMetrics,
    "candidate": schema.CandidateMetrics,
    "corruption": schema.CorruptionFile,
}
FILES = sorted(path for path in RECORDED.glob("*.json") if path.stem not in ("rejected", "packing"))
LINES = (RECORDED / "journal.jsonl").read_text().splitlines()


def kind_of(path: Path) -> type[schema.Record]:
    return KINDS[path.stem.partition("_")[0]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recorded_file_is_written_again_with_the_same_bytes(path: Path) -> None:
    record = schema.parsed(kind_of(path), json.loads(path.read_text()), path.name)
    assert json_text(record.as_json()) == path.read_text()


def test_what_decides_bits_has_no_other_keys() -> None:
    value = json.loads((RECORDED / "packing.json").read_text())
    packing = schema.parsed(schema.PackingFile, value, "packing.json")
    assert json_text(packing.model_dump()) == (RECORDED / "packing.json").read_text()
    with pytest.raises(ValueError, match=r"^packing.json: surprise is not a key"):
        schema.parsed(schema.PackingFile, {**value, "surprise": 1}, "packing.json")


def test_rejected_attempts_are_a_list_of_candidates() -> None:
    text = (RECORDED / "rejected.json").read_text()
    rejected = schema.parsed(schema.Rejected, json.loads(text), "rejected").root
    assert json_text([each.as_json() for each in rejected]) == text
    assert all(each.divergence is not None for each in rejected)


def test_a_recorded_journal_is_written_again_with_the_same_bytes() -> None:
    events = journal.read(RECORDED / "journal.jsonl")
    assert [json.dumps(finite(event.as_json())) for event in events] == LINES
    assert {type(event) for event in events} == set(EVENTS.values())  # each kind is there


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_keys_of_a_later_version_are_passed_over(path: Path) -> None:
    value: dict[str, Any] = json.loads(path.read_text())
    kind = kind_of(path)
    later = schema.parsed(kind, {**value, "surprise": [1]}, path.name)
    assert later == schema.parsed(kind, value, path.name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_value_of_another_kind_is_named_in_one_line(path: Path) -> None:
    value: dict[str, Any] = json.loads(path.read_text())
    for key, old in value.items():
        wrong: Any = 7 if isinstance(old, str | list | dict) else "seven"
        with pytest.raises(ValueError, match=rf"^a.json: {key}") as error:
            schema.parsed(kind_of(path), {**value, key: wrong}, "a.json")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [[], "text", 3, None, {}])
def test_what_is_no_record_is_refused_in_one_line(value: object) -> None:
    for kind in KINDS.values():
        if kind is not schema.DenseMetrics or value != {}:
            with pytest.raises(ValueError, match=r"^a.json: ") as error:
                schema.parsed(kind, value, "a.json")
            assert "\n" not in str(error.value)


def test_a_number_that_is_none_is_null_in_the_file_and_comes_back() -> None:
    divergence = schema.Divergence(kind="not finite", epoch=2, loss=float("nan"))
    document = json.loads(json_text(divergence.as_json()))
    assert document == {"kind": "not finite", "epoch": 2, "loss": None}
    assert json_text(schema.Divergence.model_validate(document).as_json()) == json_text(document)


def test_an_event_of_a_later_version_keeps_its_keys() -> None:
    line = {"time": "2026-01-01T00:00:00+00:00", "event": "holiday", "days": 3, "why": None}
    assert event_type(line) is OtherEvent
    assert OtherEvent.model_validate(line).as_json() == line


def test_a_line_that_lacks_what_its_event_has_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{LINES[0]}\n{{"event": "stopped"}}\n')
    with pytest.raises(ValueError, match=r"journal.jsonl, line 2: reason"):
        journal.read(path)
