"""Facts about the journal: every line is an event, whatever moment the process died."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import pytest

from sms_dist.run.journal import Journal, OtherEvent, StartEvent, read


def test_events_are_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert read(path) == []
    Journal(path).write(StartEvent(ranks=4))
    Journal(path).write(OtherEvent(event="phase_done", phase=1, note="zwölf\nlines"))
    events = read(path)
    assert [event.event for event in events] == ["start", "phase_done"]
    assert events[0].ranks == 4
    assert events[1].as_json()["note"] == "zwölf\nlines"
    assert len(path.read_text().splitlines()) == 2


def test_the_time_is_utc_in_iso_format(tmp_path: Path) -> None:
    Journal(tmp_path / "j").write(OtherEvent(event="start"))
    offset = datetime.fromisoformat(read(tmp_path / "j")[0].time).utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0


def test_a_loss_that_is_not_a_number_becomes_null(tmp_path: Path) -> None:
    Journal(tmp_path / "j").write(OtherEvent(event="epoch", loss=math.nan))
    assert read(tmp_path / "j")[0].as_json()["loss"] is None


def test_a_torn_last_line_is_left_out_and_the_next_event_starts_a_line(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).write(OtherEvent(event="one"))
    Journal(path).write(OtherEvent(event="two"))
    path.write_bytes(path.read_bytes()[:-9])
    assert [event.event for event in read(path)] == ["one"]
    Journal(path).write(OtherEvent(event="three"))
    assert [event.event for event in read(path)] == ["one", "three"]


def test_a_last_line_that_lacks_only_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).write(OtherEvent(event="one"))
    path.write_bytes(path.read_bytes()[:-1])
    assert [event.event for event in read(path)] == ["one"]
    Journal(path).write(OtherEvent(event="two"))
    assert [event.event for event in read(path)] == ["one", "two"]


def test_every_cut_of_a_journal_can_be_read_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).write(OtherEvent(event="one"))
    Journal(path).write(OtherEvent(event="two", loss=0.5))
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        before = read(path)
        Journal(path).write(OtherEvent(event="three"))
        assert read(path)[:-1] == before
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


@pytest.mark.parametrize("torn", ['{"event": "tw', "17", ""])
def test_a_torn_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "j"
    path.write_text('{"event": "one"}\n' + torn + '\n{"event": "three"}\n')
    with pytest.raises(ValueError, match="line 2"):
        read(path)
