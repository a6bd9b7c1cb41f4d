"""Facts about the progress files of the groups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sms_dist.run.progress import Progress, ProgressWriter, read_all


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_group_is_read_back_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "progress"
    assert read_all(folder) == {}
    for group in (10, 2):
        ProgressWriter(folder, group, Clock()).update(stage="retrain", phase=1, candidate=group)
    (folder / "notes.txt").write_text("not ours")
    groups = read_all(folder)
    assert list(groups) == [2, 10]
    assert groups[10] == Progress(stage="retrain", phase=1, candidate=10, time=1000.0)


def test_a_group_is_written_at_most_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    writer = ProgressWriter(tmp_path, 0, clock)
    written = []
    for step in range(30):
        writer.update(stage="retrain", step=step)
        written.append(read_all(tmp_path)[0].step)
        clock.now += 0.25
    assert sorted(set(written)) == [0, 4, 8, 12, 16, 20, 24, 28]


def test_force_and_a_new_stage_are_written_at_once(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path, 0, Clock())
    writer.update(stage="retrain", step=1)
    writer.update(step=2, force=True)
    assert read_all(tmp_path)[0].step == 2
    writer.update(stage="evaluate")
    assert read_all(tmp_path)[0].stage == "evaluate"


def test_a_clock_that_is_set_back_does_not_silence_a_group(tmp_path: Path) -> None:
    clock = Clock()
    writer = ProgressWriter(tmp_path, 0, clock)
    writer.update(step=1)
    clock.now -= 3600
    writer.update(step=2)
    assert read_all(tmp_path)[0].step == 2


def test_fields_stay_until_they_are_changed(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path, 0)
    writer.update(phase=2, num_phases=3, loss=0.5)
    writer.update(loss=math.nan, force=True)
    assert read_all(tmp_path)[0].num_phases == 3
    assert read_all(tmp_path)[0].loss is None


def test_a_new_stage_starts_without_the_measurements_of_the_last(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path, 0, Clock())
    writer.update(stage="retrain", phase=2, candidate=1, epoch=3, num_epochs=3, loss=0.5)
    writer.update(stage="evaluate", step=2)
    expected = Progress(phase=2, candidate=1, stage="evaluate", step=2, time=1000.0)
    assert read_all(tmp_path)[0] == expected


def test_the_fraction_counts_whole_epochs_and_steps() -> None:
    assert Progress().fraction is None
    assert Progress(epoch=1, num_epochs=4, step=0, num_steps=10).fraction == 0
    assert Progress(epoch=2, num_epochs=4, step=5, num_steps=10).fraction == 0.375
    assert Progress(epoch=4, num_epochs=4, step=10, num_steps=10).fraction == 1
