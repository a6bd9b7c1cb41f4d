"""A training that is stopped after any step, and gone on with, has the bits of one that was not."""

from __future__ import annotations

import pytest
import torch
from test_loop import ALONE, CPU, LOADER, Recorder, engine_of, new_model, random_mask, training

from sms_dist.config import PretrainConfig, RecordsConfig, RetrainConfig
from sms_dist.mesh.control import Control, Stopped
from sms_dist.run.checkpoint_files import RankCheckpoints
from sms_dist.training import checkpoints
from sms_dist.training.checkpoints import Checkpointer, state_digest
from sms_dist.training.loop import train
from sms_dist.training.retrain import WeightAverage

EPOCHS = 3
STEPS = EPOCHS * LOADER.num_steps
OPTIMIZERS = {
    "sgd": PretrainConfig(momentum=0.9, weight_decay=1e-2, clip_norm=1.0),
    "no momentum": PretrainConfig(momentum=0.0, weight_decay=0.0),
    "adamw": PretrainConfig(optimizer="adamw", weight_decay=0.1),
}


class StopAfter(Recorder):
    """A watcher who asks to stop after so many steps."""

    def __init__(self, control, steps):
        super().__init__()
        self.control, self.left, self.resumed = control, steps, None

    def resume(self, document):
        self.resumed = (len(document["epochs"]), document["steps"])

    def step(self, epoch, step, meter, num_samples):
        super().step(epoch, step, meter, num_samples)
        self.left -= 1
        if self.left == 0:
            self.control.request("test")


def start(folder, steps=-1, optimizer="sgd", records=None, identity="this"):
    """(weights and average, epochs, watcher) of one start, which may end with Stopped."""
    control = Control(None, 0, 1)
    watcher = StopAfter(control, steps)
    model = new_model(dropout=0.5)
    engine = engine_of(model, random_mask(model), OPTIMIZERS[optimizer])
    average = WeightAverage(RetrainConfig(epochs=EPOCHS, swa_from=0.3), engine.weights)
    points = RankCheckpoints(folder, 0, {"training": identity})
    checkpointer = Checkpointer(points, ALONE, control, records or RecordsConfig(), CPU)
    try:
        epochs = train(
            training(
                engine,
                epochs=EPOCHS,
                watcher=watcher,
                checkpointer=checkpointer,
                follower=average,
            )
        )
    except Stopped:
        return None, None, watcher
    return {**engine.weights(), "average": average.result()}, epochs, watcher


def assert_same(found, wanted):
    average, other = found.pop("average"), wanted["average"]
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name]), name
    assert all(torch.equal(average[name], other[name]) for name in other)


@pytest.fixture(autouse=True)
def looks_after_every_step(monkeypatch):
    """The steps of this model are too short for the usual pace."""
    monkeypatch.setattr(checkpoints, "LOOK_SECONDS", 0.0)


@pytest.fixture(scope="module", params=OPTIMIZERS)
def undisturbed(request, tmp_path_factory):
    """(optimizer, what comes of it, epochs) without checkpoints."""
    model = new_model(dropout=0.5)
    engine = engine_of(model, random_mask(model), OPTIMIZERS[request.param])
    average = WeightAverage(RetrainConfig(epochs=EPOCHS, swa_from=0.3), engine.weights)
    epochs = train(training(engine, epochs=EPOCHS, follower=average))
    return request.param, {**engine.weights(), "average": average.result()}, epochs


@pytest.mark.parametrize("steps", [1, 5, 6, 7, 18])
def test_stopped_after_any_step_it_comes_to_the_same_end(tmp_path, undisturbed, steps):
    optimizer, wanted, epochs = undisturbed
    stopped, _, _ = start(tmp_path, steps, optimizer)
    assert stopped is None
    found, again, watcher = start(tmp_path, optimizer=optimizer)
    assert watcher.resumed == ((steps - 1) // 6 if steps % 6 else steps // 6 - 1, steps)
    assert len(watcher.steps) == STEPS - steps  # nothing is done twice
    assert_same(found, wanted)
    assert again == epochs


def test_stopped_again_and_again_it_comes_to_the_same_end(tmp_path, undisturbed):
    optimizer, wanted, epochs = undisturbed
    for _ in range(5):
        start(tmp_path, 3, optimizer)
    found, again, _ = start(tmp_path, optimizer=optimizer)
    assert_same(found, wanted)
    assert again == epochs


def test_with_the_newest_point_damaged_it_goes_on_from_the_one_before(tmp_path, undisturbed):
    optimizer, wanted, _ = undisturbed
    start(tmp_path, 8, optimizer, RecordsConfig(every_steps=5))
    points = RankCheckpoints(tmp_path, 0, {"training": "this"})
    assert sorted(points.find(0)) == [5, 8]
    points.find(0)[8].path.write_bytes(b"torn")
    found, _, watcher = start(tmp_path, optimizer=optimizer)
    assert watcher.resumed == (0, 5)
    assert_same(found, wanted)


def test_points_of_another_training_are_not_gone_on_from(tmp_path):
    start(tmp_path, 8)
    _, _, watcher = start(tmp_path, identity="another")
    assert watcher.resumed is None


def test_points_are_made_every_so_many_steps(tmp_path):
    start(tmp_path, records=RecordsConfig(every_steps=4, every_seconds=None))
    assert sorted(RankCheckpoints(tmp_path, 0, {"training": "this"}).find(0)) == [12, 16]


def test_points_are_made_by_time_but_not_more_often_than_they_are_worth(tmp_path):
    start(tmp_path / "often", records=RecordsConfig(every_seconds=1e-9))
    assert list((tmp_path / "often").iterdir())
    start(tmp_path / "never", records=RecordsConfig(every_seconds=1e9))
    assert not (tmp_path / "never").exists()


def test_the_meter_goes_on_counting(tmp_path, undisturbed):
    """The loss of an epoch that was interrupted is that of all of its steps."""
    optimizer, _, epochs = undisturbed
    start(tmp_path, 3, optimizer)
    _, again, _ = start(tmp_path, optimizer=optimizer)
    assert again[0] == epochs[0]


def test_weights_of_any_type_have_a_digest_of_their_bits():
    for dtype in (torch.float32, torch.bfloat16, torch.complex64, torch.int64):
        state = {"a": torch.ones(2, 3, dtype=dtype).T, "b": torch.tensor(1, dtype=dtype)}
        other = {**state, "b": torch.tensor(2, dtype=dtype)}
        assert state_digest(state) == state_digest({"b": state["b"], "a": state["a"].clone()})
        assert state_digest(state) != state_digest(other)
