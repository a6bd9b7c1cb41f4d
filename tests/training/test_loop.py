"""The training loop on one rank: addresses, micro-batches, masks that hold, and divergence."""

import math

import pytest
import torch
from torch import nn

from sms_dist import data
from sms_dist.base.randomness import stream
from sms_dist.config import Config, DataConfig, EngineConfig, PretrainConfig
from sms_dist.data.dataset import Split
from sms_dist.data.loader import Pixels
from sms_dist.data.resident import Resident
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.methods import recipe
from sms_dist.pruning.mask import apply_, full_mask, prunable_names
from sms_dist.schedules.learning_rate import History
from sms_dist.tasks.classification import Classification
from sms_dist.training.context import set_up
from sms_dist.training.loop import Meter, Training, TrainingLoss, train
from sms_dist.training.retrain import Start, retrain

ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")
HERE = Topology(ALONE, ALONE, ALONE, None, CPU)
TASK = Classification(data.info(DataConfig()), DataConfig())
NUM_SAMPLES, BATCH = 90, 16
PIXELS = stream(0, "test pixels").uniform(torch.arange(NUM_SAMPLES), 36)
LABELS = (PIXELS[:, :12].sum(1) > PIXELS[:, 12:24].sum(1)).long()
LOADER = Resident(
    Split((PIXELS * 256).to(torch.uint8).view(-1, 1, 6, 6), LABELS),
    BATCH,
    Pixels((0.5,), (0.3,), CPU),
    None,
    CPU,
)
SGD = PretrainConfig(momentum=0.9, weight_decay=1e-2)
OPTIMIZERS = {
    "sgd": SGD,
    "sgd_without_decay": PretrainConfig(momentum=0.9, weight_decay=0.0),
    "clipped": PretrainConfig(momentum=0.9, weight_decay=1e-2, clip_norm=0.1),
    "adamw": PretrainConfig(optimizer="adamw", weight_decay=0.1),
}


class Recorder:
    """Remembers what a watcher is told."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def facts(self):
        return {}

    def step(self, epoch, step, meter, num_samples):
        self.steps.append((epoch, step, num_samples, meter.average().loss))

    def epoch(self, epoch):
        self.epochs.append(epoch)


class Nobody:
    """Makes no checkpoints, and makes nothing of the weights after an epoch."""

    def last(self, is_sharded):
        return None

    def after_step(self, steps, capture):
        pass

    def finish(self):
        pass

    def after_update(self):
        pass

    def after_epoch(self, epoch):
        pass


NOBODY = Nobody()


def new_model(dropout=0.0):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 2)
    )


def random_mask(model, sparsity=0.7):
    full = full_mask(dict(model.named_parameters()), prunable_names(model))
    generator = torch.Generator().manual_seed(4)
    return {n: torch.rand(kept.shape, generator=generator) > sparsity for n, kept in full.items()}


def engine_of(model, mask=None, optimizer=SGD, **engine):
    job = Job(
        model, mask or {}, ALONE, HERE, EngineConfig(**engine), optimizer_settings(optimizer), BATCH
    )
    return make_engine(job)


def training(engine, rates=0.05, epochs=2, label_smoothing=0.0, **changes):
    """A training of two epochs that nobody watches."""
    rates = [rates] * (LOADER.num_steps * epochs) if isinstance(rates, float) else rates
    fields = {
        "loss": TrainingLoss(TASK, label_smoothing),
        "seed": 7,
        "purpose": "retrain",
        "phase": 1,
        "axis": ALONE,
        "device": CPU,
        "watcher": Recorder(),
        "checkpointer": NOBODY,
        "follower": NOBODY,
    }
    return Training(engine, LOADER, rates, **(fields | changes))


def trained(dropout=0.0, engine=None, **changes):
    """(weights, epochs); `engine`: what is given to `engine_of`."""
    made = engine_of(new_model(dropout), **(engine or {}))
    epochs = train(training(made, **changes))
    return made.weights(), epochs


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def differ(first, second):
    return any(not torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_loss_falls_and_every_step_and_epoch_is_told():
    recorder, engine = Recorder(), engine_of(new_model())
    epochs = train(training(engine, epochs=5, watcher=recorder))
    assert epochs[-1].loss < 0.7 * epochs[0].loss
    assert recorder.epochs == epochs
    assert [e.epoch for e in epochs] == [1, 2, 3, 4, 5]
    assert {e.num_samples for e in epochs} == {NUM_SAMPLES}
    places = [(epoch, step) for epoch, step, _, _ in recorder.steps]
    assert places == [(e, s) for e in range(1, 6) for s in range(1, 7)]
    assert sum(n for epoch, _, n, _ in recorder.steps if epoch == 1) == NUM_SAMPLES
    assert recorder.steps[5][3] == epochs[0].loss  # the meter starts afresh in each epoch


def test_the_rates_are_used_step_by_step():
    frozen, _ = trained(rates=[0.0] * 6)
    assert_same_bits(frozen, {n: p.detach() for n, p in new_model().named_parameters()})
    rates = [0.1 / (i + 1) for i in range(12)]
    forward, epochs = trained(rates=rates)
    assert [e.learning_rate for e in epochs] == [rates[5], rates[11]]
    assert differ(forward, trained(rates=rates[::-1])[0])


def test_no_rates_are_no_training():
    weights, epochs = trained(rates=[])
    assert epochs == []
    assert_same_bits(weights, {n: p.detach() for n, p in new_model().named_parameters()})


def test_one_sgd_step_is_the_formula():
    model = new_model()
    engine = engine_of(model, optimizer=PretrainConfig(momentum=0.9, weight_decay=0.01))
    reference = new_model()
    batch = next(LOADER.part(0, 1, 32))
    nn.functional.cross_entropy(reference(*batch.inputs), batch.targets).backward()
    engine.step(batch.inputs, batch.targets, batch.weight, 0.5, Meter(TrainingLoss(TASK), CPU).loss)
    for name, p in reference.named_parameters():
        gradient = p.grad + 0.01 * p.detach()
        expected = p.detach() - 0.5 * (gradient + 0.9 * gradient)  # Nesterov, first step
        torch.testing.assert_close(engine.weights()[name], expected)


@pytest.mark.parametrize(("limit", "moved"), [(0.01, 0.01), (0.1, 0.1), (1e6, None)])
def test_clipping_limits_how_far_one_step_moves_all_weights_together(limit, moved):
    def distance(**keys):
        engine = engine_of(new_model(), optimizer=PretrainConfig(weight_decay=0.0, **keys))
        batch = next(LOADER.part(0, 1, 32))
        engine.step(
            batch.inputs, batch.targets, batch.weight, 1.0, Meter(TrainingLoss(TASK), CPU).loss
        )
        before = new_model().state_dict()
        return math.hypot(*(float((w - before[n]).norm()) for n, w in engine.weights().items()))

    assert distance() > 0.1
    assert distance(clip_norm=limit) == pytest.approx(moved or distance(), rel=1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_micro_batches_give_the_weights_of_the_whole_batch(optimizer):
    whole, _ = trained(engine={"optimizer": optimizer})
    for accumulation in (2, 4):
        pieces, _ = trained(engine={"optimizer": optimizer, "accumulation": accumulation})
        for name, tensor in whole.items():
            torch.testing.assert_close(pieces[name], tensor, rtol=1e-5, atol=1e-6)


def test_the_same_address_gives_the_same_bits_and_any_other_other_ones():
    base, _ = trained(dropout=0.5)
    torch.manual_seed(99)
    assert_same_bits(trained(dropout=0.5)[0], base)
    for change in ({"seed": 8}, {"purpose": "pretrain"}, {"phase": 2}):
        assert differ(trained(**change)[0], trained()[0])


def test_dropout_has_an_address_of_its_own_at_every_step():
    draws = []

    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(36, 2))

        def forward(self, images):
            draws.append(torch.rand(()).item())
            return images.flatten(1) @ self.weight

    for _ in range(2):
        train(training(engine_of(Probe())))
    train(training(engine_of(Probe()), seed=8))
    assert draws[:12] == draws[12:24]
    assert len(set(draws)) == 24


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("accumulation", [1, 4])
def test_masks_hold_exactly(optimizer, accumulation):
    model = new_model()
    mask, before = random_mask(model), new_model().state_dict()
    engine = engine_of(model, mask, optimizer, accumulation=accumulation)
    assert all(not engine.weights()[n][~kept].any() for n, kept in mask.items())
    train(training(engine, epochs=3))
    for name, weight in engine.weights().items():
        kept = mask.get(name, torch.ones_like(weight, dtype=torch.bool))
        assert (weight[~kept] == 0).all()
        assert not weight[~kept].signbit().any()
        assert (weight[kept] != before[name][kept]).all()  # and what survives is trained


def test_masks_hold_in_bf16_too():
    model = new_model()
    mask = random_mask(model)
    engine = engine_of(model, mask, precision="bf16")
    train(training(engine))
    assert {w.dtype for w in engine.weights().values()} == {torch.float32}
    assert all((engine.weights()[n][~kept] == 0).all() for n, kept in mask.items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("bad", [float("inf"), float("nan"), 3e38])
def test_gradients_of_pruned_weights_may_be_anything(optimizer, bad):
    def after_training(gradient):
        torch.manual_seed(5)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
        mask = {"1.weight": torch.ones(2, 36, dtype=torch.bool)}
        mask["1.weight"][:, 0] = False
        model[1].weight.register_hook(lambda g: g.index_fill(1, torch.tensor([0]), gradient))
        engine = engine_of(model, mask, optimizer)
        train(training(engine))
        return engine.weights()

    found = after_training(bad)
    assert (found["1.weight"][:, 0] == 0).all()
    assert_same_bits(found, after_training(0.0))


def diverging(optimizer=SGD, **changes):
    """Four epochs, in the second of which the rate is absurd."""
    model = new_model()
    mask = random_mask(model)
    engine = engine_of(model, mask, optimizer)
    rates = [0.01] * 6 + [1e38] * 6 + [0.01] * 12
    recorder = Recorder()
    epochs = train(training(engine, rates=rates, watcher=recorder, **changes))
    return epochs, recorder, engine.weights(), mask


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_stops_after_the_epoch_whose_loss_is_not_finite(optimizer):
    epochs, recorder, _, _ = diverging(optimizer)
    assert [e.epoch for e in epochs] == [1, 2]
    assert math.isfinite(epochs[0].loss)
    assert not math.isfinite(epochs[1].loss)
    assert len(recorder.steps) == 12
    assert recorder.epochs[0] == epochs[0]
    assert len(recorder.epochs) == 2  # the bad epoch is told, too


@pytest.mark.parametrize("name", ["sgd", "sgd_without_decay", "adamw"])
def test_masks_hold_even_when_training_diverges(name):
    _, _, weights, mask = diverging(OPTIMIZERS[name])
    assert all((weights[name][~kept] == 0).all() for name, kept in mask.items())


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_candidate_that_diverges_is_reported_and_no_error(clip_norm):
    config = Config(
        data={"name": "digits", "train_samples": 100, "batch_size": 20},
        model={"options": {"width": 4}},
        pretrain={"clip_norm": clip_norm, "weight_decay": 0.0},
        retrain={"epochs": 3, "schedule": "ft"},
    )
    context = set_up(config, HERE)
    model = context.new_model()
    mask = random_mask(model)
    phase = recipe(config).phases[0]
    candidate = phase.candidates[0]
    history = History((1e38,), 1)
    start = Start(phase, model.state_dict(), mask, mask, history, distance=1.0)
    apply_(start.state, mask)
    found = retrain(context, start, candidate, Recorder(), NOBODY)
    assert not found.is_finite
    assert len(found.epochs) == 1


def test_label_smoothing_is_that_of_the_job():
    plain, smooth = trained()[1], trained(label_smoothing=0.3)[1]
    assert smooth[0].loss != plain[0].loss
