"""The candidates of a stack: what each comes to, however long, wherever it was stopped."""

from __future__ import annotations

import math

import pytest
import torch
from test_loop import ALONE, CPU, HERE, LOADER, NOBODY, Recorder, random_mask
from test_loop import training as training_of
from torch import nn

from sms_dist.config import EngineConfig, PretrainConfig, RecordsConfig, RetrainConfig
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh.control import Control, Stopped
from sms_dist.run.checkpoint_files import RankCheckpoints
from sms_dist.stacks.engine import StackEngine
from sms_dist.stacks.loop import train_together
from sms_dist.training import checkpoints
from sms_dist.training.checkpoints import Checkpointer
from sms_dist.training.loop import train
from sms_dist.training.retrain import WeightAverage

EPOCHS = (2, 3, 1)
STEPS = LOADER.num_steps
OPTIMIZERS = {
    "sgd": PretrainConfig(momentum=0.9, weight_decay=1e-2, clip_norm=1.0),
    "adamw": PretrainConfig(optimizer="adamw", weight_decay=0.1),
}


class Killed(Exception):  # noqa: N818
    """As if the process had died."""


class Watcher(Recorder):
    """Asks to stop, or dies, after so many steps of its own."""

    def __init__(self, control=None, stop=None, kill=None):
        super().__init__()
        self.control, self.stop, self.kill, self.resumed = control, stop, kill, None

    def resume(self, document):
        self.resumed = document["steps"]

    def step(self, epoch, step, meter, num_samples):
        super().step(epoch, step, meter, num_samples)
        if len(self.steps) == self.stop:
            self.control.request("test")
        if len(self.steps) == self.kill:
            raise Killed


def model(seed):
    torch.manual_seed(seed)
    conv = nn.Conv2d(1, 4, 3, bias=False)  # AdamW makes steps of the noise in a useless bias
    layers = conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    return nn.Sequential(*layers)


def jobs(optimizer="sgd"):
    settings = optimizer_settings(OPTIMIZERS[optimizer])
    return [
        Job(one, random_mask(one), ALONE, HERE, EngineConfig(), settings, 16)
        for one in map(model, range(len(EPOCHS)))
    ]


def stack(watchers, checkpointers=(NOBODY,) * 3, optimizer="sgd", present=(0, 1, 2), rates=None):
    """(engine, trainings by place); each averages its weights over its epochs."""
    given = [job if place in present else None for place, job in enumerate(jobs(optimizer))]
    engine = StackEngine(given, [STEPS * epochs for epochs in EPOCHS])
    trainings = {}
    for p in present:
        retrain = RetrainConfig(epochs=EPOCHS[p], swa_from=0.3)
        trainings[p] = training_of(
            engine.place(p),
            (rates or {}).get(p, 0.05),
            EPOCHS[p],
            seed=p,
            watcher=watchers[p],
            checkpointer=checkpointers[p],
            follower=WeightAverage(retrain, engine.place(p).weights),
        )
    return engine, trainings


def ended(engine, trainings):
    """What each has come to, by place, in the order in which they ended."""
    return {
        place: (
            {**trainings[place].engine.weights(), **trainings[place].follower.state()},
            trainings[place].epochs,
        )
        for place in train_together(engine, trainings)
    }


def assert_same_bits(found, wanted):
    assert found.keys() <= wanted.keys()
    for place, (tensors, epochs) in found.items():
        assert epochs == wanted[place][1]
        for name, tensor in tensors.items():
            assert torch.equal(tensor, wanted[place][0][name]), (place, name)


@pytest.fixture(autouse=True)
def looks_after_every_step(monkeypatch):
    monkeypatch.setattr(checkpoints, "LOOK_SECONDS", 0.0)


@pytest.fixture(scope="module", params=OPTIMIZERS)
def undisturbed(request):
    watchers = [Watcher() for _ in EPOCHS]
    return request.param, watchers, ended(*stack(watchers, optimizer=request.param))


def test_each_comes_to_what_it_comes_to_alone(undisturbed):
    optimizer, watchers, found = undisturbed
    assert list(found) == [2, 0, 1]  # as soon as each has ended
    for place, job in enumerate(jobs(optimizer)):
        engine, recorder = make_engine(job), Recorder()
        epochs = train(training_of(engine, epochs=EPOCHS[place], seed=place, watcher=recorder))
        for name, weight in engine.weights().items():
            torch.testing.assert_close(found[place][0][name], weight, rtol=2e-3, atol=2e-4)
        for mine, wanted in zip(found[place][1], epochs, strict=True):
            assert mine.loss == pytest.approx(wanted.loss, rel=1e-3)
            assert mine.accuracy == pytest.approx(wanted.accuracy, abs=0.03)
        places = [step[:3] for step in watchers[place].steps]
        assert places == [step[:3] for step in recorder.steps]


def started(folder, optimizer, records=None, **watching):
    """Of one start, which may be stopped or killed: what has come of it, and who watched.

    `watching`: what the watcher at this place does, as p0={"stop": 5}.
    """
    control = Control(None, 0, 1)
    watchers = [Watcher(control, **watching.get(f"p{p}", {})) for p in range(3)]
    checkpointers = [
        Checkpointer(
            RankCheckpoints(folder / str(place), 0, {}),
            ALONE,
            control,
            (records or {}).get(place, RecordsConfig(every_seconds=None)),
            CPU,
        )
        for place in range(3)
    ]
    try:
        return ended(*stack(watchers, checkpointers, optimizer)), watchers
    except (Stopped, Killed) as reason:
        for checkpointer in checkpointers:
            checkpointer.finish()
        return reason, watchers


@pytest.mark.parametrize("steps", [1, 6, 8, 13])
def test_all_that_train_leave_a_point_when_one_hears_of_a_stop(tmp_path, undisturbed, steps):
    optimizer, _, wanted = undisturbed
    reason, _ = started(tmp_path, optimizer, p1={"stop": steps})
    assert isinstance(reason, Stopped)
    found, watchers = started(tmp_path, optimizer)
    lengths = [STEPS * epochs for epochs in EPOCHS]
    resumed = [w.resumed for w in watchers]
    # the first in the order has looked before the second heard of it
    assert resumed[1] == steps
    assert all(at in (None, steps, steps + 1, n) for at, n in zip(resumed, lengths, strict=True))
    assert_same_bits(found, wanted)


def test_killed_with_points_of_different_steps_they_go_on_from_their_own(tmp_path, undisturbed):
    optimizer, _, wanted = undisturbed
    records = {p: RecordsConfig(every_steps=n, every_seconds=None) for p, n in enumerate((4, 5, 3))}
    reason, _ = started(tmp_path, optimizer, records, p1={"kill": 11})
    assert isinstance(reason, Killed)
    found, watchers = started(tmp_path, optimizer)
    assert [watcher.resumed for watcher in watchers] == [8, 10, 6]
    assert len(watchers[0].steps) == 2 * STEPS - 8  # nothing is done twice
    assert_same_bits(found, wanted)


def test_those_that_are_on_the_disk_are_not_missed(undisturbed):
    optimizer, watchers, wanted = undisturbed
    found = ended(*stack(watchers, optimizer=optimizer, present=(1,)))
    assert list(found) == [1]
    assert_same_bits(found, wanted)


def test_one_that_diverges_ends_and_leaves_the_others_bits_alone(undisturbed):
    optimizer, _, wanted = undisturbed
    watchers = [Watcher() for _ in EPOCHS]
    found = ended(*stack(watchers, optimizer=optimizer, rates={1: [1e38] * (3 * STEPS)}))
    assert not math.isfinite(found[1][1][-1].loss)
    assert len(found[1][1]) < EPOCHS[1]
    del found[1]
    assert_same_bits(found, wanted)
