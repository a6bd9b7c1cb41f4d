"""A stack of candidates in one process: each takes the steps that it takes by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sms_dist import models
from sms_dist.config import EngineConfig, ModelConfig, PretrainConfig
from sms_dist.data.loader import Batch
from sms_dist.engines import make_engine
from sms_dist.engines.base import Job
from sms_dist.engines.optimizers import optimizer_settings
from sms_dist.mesh.topology import Axis, Topology
from sms_dist.pruning.mask import full_mask, prunable_names
from sms_dist.stacks.engine import StackEngine

ALONE, CPU = Axis(None, 0, 1), torch.device("cpu")
HERE = Topology(ALONE, ALONE, ALONE, None, CPU)
SGD = PretrainConfig(momentum=0.9, weight_decay=1e-2)
OPTIMIZERS = {
    "sgd": [SGD, SGD, SGD],
    "other decays": [PretrainConfig(momentum=0.9, weight_decay=w) for w in (1e-2, 0.0, 1e-1)],
    "no momentum": [PretrainConfig(momentum=0.0, weight_decay=1e-2)] * 3,
    "clipped": [PretrainConfig(weight_decay=1e-2, clip_norm=0.3)] * 3,
    "adamw": [
        PretrainConfig(optimizer="adamw", weight_decay=w, learning_rate=0.01)
        for w in (0.1, 0.0, 0.3)
    ],
}
# (options, shape of an input): all families with convolutions, attention, or both, and no dropout
FAMILIES = {
    "digits_cnn": ({"width": 4}, (1, 8, 8)),
    "resnet20": ({"width": 2}, (3, 32, 32)),
    "resnet18": ({"width": 4, "stem": "small"}, (3, 16, 16)),
    "wrn20": ({"widen": 1, "dropout": 0.0}, (3, 32, 32)),
    "vgg16_bn": ({"width": 4, "head": "linear"}, (3, 32, 32)),
    "maxvit_t": (
        {"layers": [1, 1], "width": 32, "window": 2, "stochastic_depth": 0.0},
        (3, 16, 16),
    ),
}
RATES, STEPS, BATCH = (0.05, 0.02, 0.1), 3, 6


def counted_loss(outputs, targets):
    """The loss in the model's own precision, and a count."""
    loss = F.cross_entropy(outputs, targets, reduction="sum")
    return loss, torch.full((1,), len(targets), dtype=torch.float64)


def small_model(seed, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(64, 3),
    )


def random_mask(model, seed=4, sparsity=0.7):
    full = full_mask(dict(model.named_parameters()), prunable_names(model))
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(kept.shape, generator=generator) > sparsity for n, kept in full.items()}


def jobs_of(build, optimizers=(SGD, SGD, SGD), dtype=torch.float64, **engine):
    built = [build(seed).to(dtype) for seed in range(len(optimizers))]
    config = EngineConfig(**engine)
    return [
        Job(
            model,
            random_mask(model, seed),
            ALONE,
            HERE,
            config,
            optimizer_settings(optimizer),
            BATCH,
        )
        for seed, (model, optimizer) in enumerate(zip(built, optimizers, strict=True))
    ]


def drawn(place, step, shape=(1, 6, 6), classes=3, dtype=torch.float64, size=BATCH):
    generator = torch.Generator().manual_seed(100 * place + step)
    images = torch.randn(size, *shape, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, classes, (size,), generator=generator)
    return Batch((images,), targets, size, float(size)), RATES[place % 3] / (1 + step)


def stacked(jobs, steps=STEPS, **kind):
    engine = StackEngine(jobs, [steps] * len(jobs))
    for step in range(steps):
        engine.step(step, {i: drawn(i, step, **kind) for i in range(len(jobs))}, counted_loss)
    return engine


def alone(job, place, steps=STEPS, **kind):
    engine = make_engine(job)
    for step in range(steps):
        batch, rate = drawn(place, step, **kind)
        engine.step(
            batch.inputs, batch.targets, batch.weight, rate, lambda o, t: counted_loss(o, t)[0]
        )
    return engine


def assert_close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-7, atol=1e-9, msg=name)


def buffers(engine, place):
    row = engine.row_of(place)
    return {n.removeprefix("buffer."): t for n, t in row.items() if n.startswith("buffer.")}


class Counting(nn.Module):
    """A batch norm that is called twice, a running mean that is assigned, a count, a constant."""

    def __init__(self):
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(36), nn.Linear(36, 3)
        self.register_buffer("center", torch.zeros(36))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("passing", torch.zeros(1), persistent=False)

    def forward(self, x):
        x = x.flatten(1)
        self.center = 0.5 * self.center + 0.5 * x.mean(0)
        self.steps += 1
        return self.last(self.norm(self.norm(x - self.center)))


def test_what_a_forward_pass_does_to_buffers_comes_home():
    def build(seed):
        torch.manual_seed(seed)
        return Counting()

    engine = stacked(jobs_of(build))
    for place, job in enumerate(jobs_of(build)):
        home = alone(job, place).weights()
        assert home["steps"] == STEPS
        assert home["center"].any()
        assert home["norm.num_batches_tracked"] == 2 * STEPS
        assert "passing" not in home
        assert_close(engine.place(place).weights(), home)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_the_steps_that_each_candidate_takes_alone(family):
    options, shape = FAMILIES[family]
    kind = {"shape": shape, "classes": 10}

    def build(seed):
        config = ModelConfig(name=family, options=options)
        return models.build(config, shape, 10, seed=seed, data_name="x", task="classification")

    engine = stacked(jobs_of(build), steps=2, **kind)
    for place, job in enumerate(jobs_of(build)):
        assert_close(engine.place(place).weights(), alone(job, place, steps=2, **kind).weights())
        assert_close(buffers(engine, place), dict(job.model.named_buffers()))


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("optimizers", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_optimizer_takes_its_steps_at_each_ones_rate_and_decay(optimizers, accumulation):
    engine = stacked(jobs_of(small_model, optimizers, accumulation=accumulation))
    for place, job in enumerate(jobs_of(small_model, optimizers, accumulation=accumulation)):
        assert_close(engine.place(place).weights(), alone(job, place).weights())


@pytest.mark.parametrize("optimizers", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_masks_hold_exactly_each_its_own(optimizers, precision):
    jobs = jobs_of(small_model, optimizers, torch.float32, precision=precision)
    engine = stacked(jobs, dtype=torch.float32)
    for place, job in enumerate(jobs):
        before = dict(job.model.named_parameters())
        weights = engine.place(place).weights()
        for name, kept in job.mask.items():
            assert (weights[name][~kept] == 0).all()
            assert (weights[name][kept] != before[name][kept]).any()
        row = engine.row_of(place)
        assert all((row[n][row["weights"] == 0] == 0).all() for n in row if "optimizer." in n)


def test_bf16_is_computed_in_bf16():
    """vmap hides operations from autocast, so that they would stay in fp32 without a word."""
    found = []

    def build(seed):
        model = small_model(seed)
        for layer in (model[0], model[1], model[5]):
            layer.register_forward_hook(lambda layer, inputs, output: found.append(output.dtype))
        return model

    stacked(jobs_of(build, dtype=torch.float32, precision="bf16"), steps=1, dtype=torch.float32)
    assert found == [torch.bfloat16] * 3


def test_what_is_seen_is_that_of_each_candidates_own_batch():
    engine = StackEngine(jobs_of(small_model), [1, 1, 1])
    found = engine.step(0, {i: drawn(i, 0, size=BATCH + i) for i in range(3)}, counted_loss)
    assert {place: int(facts) for place, facts in found.items()} == {0: 6, 1: 7, 2: 8}


def test_batches_of_other_sizes_are_other_steps_of_the_same_mathematics():
    engine = StackEngine(jobs_of(small_model), [STEPS] * 3)
    for step in range(STEPS):
        engine.step(step, {i: drawn(i, step, size=BATCH + i % 2) for i in range(3)}, counted_loss)
    for place, job in enumerate(jobs_of(small_model)):
        wanted = alone(job, place, size=BATCH + place % 2).weights()
        assert_close(engine.place(place).weights(), wanted)


def rows(jobs, lengths, drawn_by):
    """All that there is of place 0 after the steps that these give, by place and step."""
    engine = StackEngine(jobs, lengths)
    for step in range(lengths[0]):
        engine.step(
            step, {p: s for p in range(len(jobs)) if (s := drawn_by(p, step))}, counted_loss
        )
    return engine.row_of(0)


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_bits_of_a_candidate_do_not_depend_on_who_is_in_the_other_places():
    def jobs():
        return jobs_of(small_model, dtype=torch.float32)

    def own(place, step):
        return drawn(place, step, dtype=torch.float32)

    lengths = [4, 2, 4]
    wanted = rows(jobs(), lengths, lambda p, step: own(p, step) if step < lengths[p] else None)
    only = rows([jobs()[0], None, None], lengths, lambda p, step: None if p else own(p, step))
    assert_same_bits(only, wanted)
    poisoned = jobs()
    poisoned[1].model[0].weight.data.fill_(float("nan"))
    poisoned[2].model[5].weight.data.fill_(3e38)
    with_nan = rows(poisoned, lengths, lambda p, step: own(p, step) if step < lengths[p] else None)
    assert_same_bits(with_nan, wanted)


def test_what_is_restored_goes_on_with_the_same_bits():
    for optimizers in ([SGD] * 3, OPTIMIZERS["adamw"]):
        engine = stacked(jobs_of(small_model, optimizers), steps=2)
        states = [{n: t.clone() for n, t in engine.place(i).state().items()} for i in range(3)]
        again = StackEngine(jobs_of(small_model, optimizers), [3] * 3)
        for i in range(3):
            again.place(i).restore(states[i])
        whole = stacked(jobs_of(small_model, optimizers), steps=3)
        again.step(2, {i: drawn(i, 2) for i in range(3)}, counted_loss)
        for i in range(3):
            assert_same_bits(again.place(i).state(), whole.place(i).state())


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    engine = StackEngine(jobs_of(small_model), [1] * 3)
    before = {n: t.clone() for n, t in engine.place(1).state().items()}
    wrong = {n: t + 1 for n, t in before.items() if n != "optimizer.momentum"}
    with pytest.raises(ValueError, match=r"optimizer\.momentum is missing"):
        engine.place(1).restore(wrong)
    assert_same_bits(engine.place(1).state(), before)


def test_dropout_cannot_be_stacked():
    """Its random numbers have an address for each candidate, which vmap cannot give them."""
    with pytest.raises(RuntimeError, match="random"):
        stacked(jobs_of(lambda seed: small_model(seed, dropout=0.5)), steps=1)


def test_the_model_that_says_how_to_compute_stays_as_it_was():
    jobs = jobs_of(small_model)
    before = {n: t.clone() for n, t in jobs[0].model.state_dict().items()}
    stacked([replace(job) for job in jobs])
    assert_same_bits(jobs[0].model.state_dict(), before)
