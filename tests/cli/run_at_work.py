"""A run folder as a run leaves it in the middle, made by what also writes the real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sms_dist.base.files import json_text
from sms_dist.cli.plan import planned
from sms_dist.config import file as config_file
from sms_dist.run import store
from sms_dist.run.journal import (
    DenseEvent,
    DoneEvent,
    Event,
    Journal,
    SoupEvent,
    StartEvent,
    StoppedEvent,
)
from sms_dist.run.lock import Lock, acquire
from sms_dist.run.paths import METRICS, RunPaths
from sms_dist.run.progress import ProgressWriter
from sms_dist.run.run_folder import environment
from sms_dist.run.schema import (
    CandidateMetrics,
    DenseMetrics,
    Epoch,
    FinalMetrics,
    ModelMetrics,
    PhaseMetrics,
    Record,
)

SETTINGS = (
    "data.name=digits",
    "data.batch_size=64",
    "pruning.phases=2",
    "retrain.epochs=2",
    "candidates.count=5",
)
STEPS = 21  # of an epoch; a candidate has two
SECONDS = 84.0  # that a candidate took: 2 a step


DONE = DoneEvent(metrics=FinalMetrics(metrics={"test_accuracy": 0.8}))


def epochs(count: int) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(epoch=number, loss=1.0, accuracy=0.5, learning_rate=0.1, num_samples=64)
        for number in range(1, count + 1)
    )


class RunAtWork:
    """Two groups, two phases of five candidates: the first phase is done, and candidate 0 of the
    second. A minute ago a start was stopped, and this one has begun."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.paths = RunPaths(folder)
        folder.mkdir(parents=True)
        config = config_file.load(None, (*SETTINGS, *settings))
        self.paths.config.write_text(config_file.dump(config))
        self.paths.plan.write_text(json_text(planned(config, 2).plan.as_json()))
        self.lock: Lock | None = None
        self.start()
        dense = DenseMetrics(metrics={"test_accuracy": 0.9})
        self.store(self.paths.dense, dense)
        self.event(DenseEvent(metrics=dense))
        for index in range(5):
            self.candidate(1, index)
        soup = PhaseMetrics(
            phase=1,
            sparsity=0.7,
            score="accuracy",
            soup=ModelMetrics(metrics={"test_accuracy": 0.84}),
            candidates=(),
        )
        self.store(self.paths.soup(1), soup)
        self.event(SoupEvent(metrics=soup))
        self.candidate(2, 0)
        self.event(StoppedEvent(reason="SIGTERM"))
        self.age(60.0)
        self.start()

    def start(self, **world: Any) -> None:
        """Another start begins; the lock is taken by `work`."""
        known = self.paths.environment
        starts = json.loads(known.read_text())["starts"] if known.is_file() else []
        own = {key: str(value) for key, value in world.items()}
        starts.append(environment().model_copy(update={"world": own}).as_json())
        known.write_text(json_text({"starts": starts}))
        self.event(StartEvent(ranks=2, groups=2, resumed=len(starts) > 1))

    def work(self, together: tuple[int, ...] = ()) -> None:
        """This process works in the folder: group 0 retrains candidate 1, group 1 measures 2; or
        group 0 retrains those of a pack, and group 1 has told nothing."""
        self.lock = acquire(self.paths.lock)
        places = [
            {"stage": "retrain", "candidate": 1, "epoch": 1, "num_epochs": 2, "step": 9},
            {"stage": "evaluate", "candidate": 2},
        ]
        places = [places[0] | {"together": list(together)}] if together else places
        for group, place in enumerate(places):
            writer = ProgressWriter(self.paths.progress, group)
            writer.update(force=True, phase=2, num_phases=2, num_steps=STEPS, **place)

    def end(self, event: Event) -> None:
        self.event(event)
        if self.lock:
            self.lock.release()

    def event(self, event: Event) -> None:
        Journal(self.paths.journal).write(event)

    def candidate(
        self, phase: int, index: int, seconds: float = SECONDS, num_epochs: int = 2
    ) -> None:
        record = CandidateMetrics(
            index=index, seed=0, metrics={}, epochs=epochs(num_epochs), seconds=seconds
        )
        self.store(self.paths.candidate(phase, index), record)

    def store(self, folder: Path, record: Record) -> None:
        store.save(folder, {}, {METRICS: record.as_json()})

    def age(self, seconds: float, files: Iterable[Path] | None = None) -> None:
        """As if these files (None: all, and the events) had been written so much earlier."""
        everything = [path for path in self.paths.root.rglob("*") if path.is_file()]
        times = {path: path.stat().st_mtime - seconds for path in files or everything}
        if files is None:
            self.shift_events(-seconds)
        for path, time in times.items():
            os.utime(path, (time, time))

    def shift_events(self, seconds: float) -> None:
        """As if the clock that wrote the journal had been so fast; its file's time stays."""
        time = self.paths.journal.stat().st_mtime
        events = [json.loads(line) for line in self.paths.journal.read_text().splitlines()]
        for event in events:
            told = datetime.fromisoformat(event["time"]) + timedelta(seconds=seconds)
            event["time"] = told.isoformat()
        self.paths.journal.write_text("".join(json.dumps(event) + "\n" for event in events))
        os.utime(self.paths.journal, (time, time))
