"""Functions and classes of people's own, in a file beside their configuration."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from sms_dist import data
from sms_dist.base.lookup import lookup_open, own, own_files, search_beside
from sms_dist.base.randomness import stream
from sms_dist.cli.main import cli
from sms_dist.config import Config, DataConfig
from sms_dist.data.augment import own_augmentation
from sms_dist.data.own_dataset import _input
from sms_dist.engines.optimizers import optimizer_maker, optimizer_settings
from sms_dist.engines.state import optimizer_state, restore_optimizer_state_
from sms_dist.experiment.checks import check
from sms_dist.methods import recipe
from sms_dist.pruning.allocation import Ranking
from sms_dist.pruning.mask import full_mask
from sms_dist.pruning.patterns import tighten
from sms_dist.schedules.learning_rate import (
    Curve,
    History,
    Retraining,
    pretraining_rates,
    retraining_rates,
)
from sms_dist.soups.rules import rule
from sms_dist.training.loop import TrainingLoss, own_loss

sys.path.append(str(Path(__file__).parent / "distributed"))
from launching import MAIN, launch_forked

SOURCE = '''
import numpy as np
import torch
from PIL import Image
from torch import nn
from sms_dist.methods.phases import several
from sms_dist.methods.phases import Phase
from sms_dist.pruning.allocation import Ranking
from sms_dist.tasks.classification import Classification

class Drift(torch.optim.SGD):
    """Moves every weight, also those without a gradient."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(1e-4)

def adagrad(params, lr, weight_decay):
    return torch.optim.Adagrad(params, lr=lr, weight_decay=weight_decay)

def no_optimizer(params, lr):
    return list(params)

def mean_loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets)

class Focal(nn.Module):
    def forward(self, outputs, targets):
        each = nn.functional.cross_entropy(outputs, targets, reduction="none")
        return (1 - torch.exp(-each)) ** 2 * each

def best_two(scores, score_of):
    first, second = sorted(range(len(scores)), key=lambda i: -scores[i])[:2]
    return [0.5 if i in (first, second) else 0.0 for i in range(len(scores))]

def last(scores, score_of):
    return [float(i == len(scores) - 1) for i in range(len(scores))]

last.needs_validation = False

def too_much(scores, score_of):
    return [1.0] * len(scores)

def by_size(weights):
    return {name: w.abs() * w.numel() for name, w in weights.items()}

def negative(weights):
    return {name: -w.abs() for name, w in weights.items()}

def flat(weights):
    return {name: w.flatten() for name, w in weights.items()}

def halves(layers, num_kept):
    """Half of what stays from each of two layers."""
    first, second = layers
    return [Ranking([first], num_kept // 2), Ranking([second], num_kept - num_kept // 2)]

def triangle(curve, epochs, steps):
    num = epochs * steps
    return [curve.learning_rate * (1 - abs(2 * i / num - 1)) for i in range(num)]

def tiny(phase, num):
    return [phase.history.largest / 100] * num

class Blobs(torch.utils.data.Dataset):
    """Two classes of points, with three numbers each."""

    def __init__(self, split):
        generator = torch.Generator().manual_seed(int(split == "train"))
        self.targets = torch.arange(60) % 2
        self.points = torch.randn(60, 3, generator=generator) + 3.0 * self.targets[:, None]

    def __len__(self):
        return 60

    def __getitem__(self, i):
        return self.points[i], int(self.targets[i])

class Tokens(Blobs):
    def __getitem__(self, i):
        return torch.tensor([i, i + 100_000_002]), int(self.targets[i])

class Pictures(Blobs):
    classes = ["dark", "light"]
    mean, std = [0.5], [0.25]

    def __getitem__(self, i):
        return torch.full((1, 8, 8), 200 * int(self.targets[i]), dtype=torch.uint8), self.targets[i]

class Masks(Pictures):
    task = "segmentation"

    def __getitem__(self, i):
        picture, target = super().__getitem__(i)
        return picture, torch.full((8, 8), target, dtype=torch.uint8)

class Odd(Blobs):
    def __getitem__(self, i):
        return torch.zeros(3 + (i == 7)), 0

class TooMany(Pictures):
    classes = ["dark"]

class Modes(Pictures):
    mode = ["L"]  # of the images

    def __getitem__(self, i):
        image = Image.new("RGB", (9, 8), (200, 100, 50)).convert(
            self.mode[0] if self.mode[0] in ("1", "L", "RGB", "RGBA", "CMYK", "I", "F") else "RGB")
        if self.mode[0] == "P":
            image = image.quantize(2)
        elif self.mode[0].startswith("I;16"):
            kind = ">u2" if self.mode[0] == "I;16B" else "<u2"
            image = Image.frombytes(self.mode[0], (9, 8), np.full((8, 9), 51300, kind).tobytes())
        elif self.mode[0] == "array":
            image = np.zeros((3, 8, 9), np.uint8)
        elif self.mode[0] == "turned":
            image.getexif()[0x0112] = 6
        return image, int(self.targets[i])

class TwoValues(Masks):
    def __getitem__(self, i):
        picture, target = Pictures.__getitem__(self, i)
        return picture, Image.new("L", (8, 8), 255 * int(target))

class Halves(Pictures):
    def __getitem__(self, i):
        return super().__getitem__(i)[0], 0.5

class Guess(Classification):
    """Our own task: classification that is called something else."""

class Guesses(Blobs):
    classes = ["a", "b"]
    task = "theirs:Guess"

def breaks(split):
    return {}[split]

def no_pairs(split):
    return [1, 2]

def words_as_targets(split):
    return [(torch.zeros(1, 2, 2), "cat")]

class BreaksAtASample(Blobs):
    def __getitem__(self, index):
        raise OSError("no disk")

def breaks_later(input_shape, num_classes):
    raise RuntimeError("of mine")

def breaks_at_work(layers, num_kept):
    return num_kept / 0

def nothing(split):
    return iter(())

def linear(input_shape, num_classes):
    return nn.Sequential(nn.Linear(input_shape[0], 16), nn.ReLU(), nn.Linear(16, num_classes))

def noise(image):
    return image + torch.randint(0, 50, image.shape, dtype=torch.uint8)

def wrong_kind(image):
    return image.float()

def mirrored(image, mask):
    return image.flip(-1), mask.flip(-1)

def two_steps(config, *, first: float = 0.5):
    """First to one sparsity, then to the goal."""
    goal = config.pruning.goal_sparsity
    fractions = (first, 1 - (1 - goal) / (1 - first))
    return tuple(
        Phase(k, sparsity, fraction, several(config, k), config.soup.rule)
        for k, (sparsity, fraction) in enumerate(zip((first, goal), fractions), 1)
    )

def no_method(config):
    return "phases"

def cautious(metrics):
    return metrics["accuracy"] - metrics["ece"]

def too_few(layers, num_kept):
    return [Ranking([name], 1) for name in layers]

def only_one(layers, num_kept):
    return [Ranking([next(iter(layers))], num_kept)]

def short(curve, epochs, steps):
    return [1.0] * (epochs * steps - 1)

def endless(phase, num):
    return [float("inf")] * num

class Counting(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "k": 0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["k"] += 1
            for p in group["params"]:
                new = torch.zeros_like(p, dtype=torch.bfloat16)
                memory = self.state[p].setdefault("memory", new)
                memory += p.grad
                p -= group["lr"] * memory / group["k"]

class Forgetful(Counting):
    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            self.state[group["params"][0]]["last"] = 0.5

class Drawn(Masks):
    def __getitem__(self, i):
        picture, mask = super().__getitem__(i)
        return picture.numpy() / 255, Image.fromarray(mask.numpy())
'''
ORACLE = SimpleNamespace(score=lambda coefficients: 0.0)


@pytest.fixture(autouse=True)
def theirs(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(SOURCE)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    monkeypatch.chdir("/")
    search_beside(tmp_path / "config.yaml")


def test_an_entry_of_the_table_comes_first_and_all_else_says_the_field():
    assert lookup_open({"a:b": 1}, "a:b", "x.y") == 1
    with pytest.raises(ValueError, match=r"x.y=uniforn is not known, did you mean uniform\?"):
        lookup_open({"uniform": 1}, "uniforn", "x.y")
    with pytest.raises(ValueError, match=r"x.y=theirs:lats: .*theirs.py has no function lats, did"):
        own("theirs:lats", "x.y")
    with pytest.raises(ValueError, match=r"x.y=their:last: there is no module their on PYTHONPATH"):
        own("their:last", "x.y")


def test_the_folder_of_the_configuration_comes_after_all_installed_modules(tmp_path):
    (tmp_path / "yaml.py").write_text("")
    assert own("yaml:safe_load", "x") is yaml.safe_load
    assert sys.path[-1] == str(tmp_path) or sys.path[-2] == str(tmp_path)


def test_a_loss_is_a_mean_or_one_for_each_sample():
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    task = type("Task", (), {})()
    task.weight = len
    task.correct = lambda outputs, wanted: (torch.tensor(0), torch.tensor(len(wanted)))
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    value, _ = TrainingLoss(task, 0.0, own_loss("theirs:mean_loss"))(logits, targets)
    assert torch.allclose(value, each.sum())
    value, _ = TrainingLoss(task, 0.0, own_loss("theirs:Focal"))(logits, targets)
    assert torch.allclose(value, ((1 - torch.exp(-each)) ** 2 * each).sum())
    assert own_loss(None) is None


def test_an_optimizer_is_given_what_it_takes():
    config = Config().pretrain.model_copy(update={"learning_rate": 0.25, "weight_decay": 0.5})
    weights = [torch.nn.Parameter(torch.ones(2))]
    made = optimizer_maker("theirs:adagrad")(weights, optimizer_settings(config))
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.25, 0.5)
    made = optimizer_maker("torch.optim:RMSprop")(weights, optimizer_settings(config))
    assert made.defaults["momentum"] == config.momentum
    with pytest.raises(ValueError, match=r"theirs:no_optimizer returned a list, not a torch.optim"):
        optimizer_maker("theirs:no_optimizer")(weights, optimizer_settings(config))


def test_a_soup_rule_gives_coefficients():
    choose = rule("theirs:best_two").choose
    assert choose([0.1, 0.3, 0.2], ORACLE, None) == [0.0, 0.5, 0.5]
    assert rule("theirs:best_two").needs_validation
    assert not rule("theirs:last").needs_validation
    with pytest.raises(ValueError, match=r"too_much returned \[1.0, 1.0\] for 2 candidates; ret"):
        rule("theirs:too_much").choose([0.1, 0.2], ORACLE, None)


def test_what_a_score_makes_largest_stays():
    weights = {"a": torch.tensor([1.0, -4.0]), "b": torch.tensor([2.0, -3.0, 0.5, 0.1])}
    full = full_mask(weights, weights)
    mask = tighten(weights, full, 0.5, score="theirs:by_size")  # 2, 8 | 8, 12, 2, 0.4
    assert [kept.tolist() for kept in mask.values()] == [[0, 1], [1, 1, 0, 0]]
    with pytest.raises(ValueError, match="negative returned numbers for a that are negative or"):
        tighten(weights, full, 0.5, score="theirs:negative")
    with pytest.raises(ValueError, match=r"theirs:flat returned \(4,\) for c, which is \(2, 2\)"):
        tighten({"c": torch.ones(2, 2)}, {"c": torch.ones(2, 2) > 0}, 0.5, score="theirs:flat")


def test_an_allocation_shares_out_among_layers():
    weights = {"a": torch.arange(4.0), "b": torch.arange(4.0) * 10}
    mask = tighten(weights, full_mask(weights, weights), 0.5, allocation="theirs:halves")
    assert [int(kept.sum()) for kept in mask.values()] == [2, 2]
    assert Ranking(["a"], 2) == own("theirs:halves", "x")(dict.fromkeys("ab"), 4)[0]


def test_schedules_give_the_rate_of_every_step():
    rates = pretraining_rates(Curve("theirs:triangle", 2, 1.0), 2)
    assert rates == [0.0, 0.5, 1.0, 0.5]
    phase = Retraining(History((1.0, 0.5), 1), 1)
    assert retraining_rates("theirs:tiny", phase, 3, 0.0) == [0.01] * 3


def test_a_run_uses_them_and_goes_on_with_the_same_bits(tmp_path):
    """On two ranks, with an optimizer that moves pruned weights: they are zero all the same."""
    settings = {
        "data": {"name": "digits", "batch_size": 64, "validation": 0.1},
        "model": {"options": {"width": 8}},
        "pretrain": {
            "epochs": 2,
            "optimizer": "theirs:Drift",
            "loss": "theirs:Focal",
            "schedule": "theirs:triangle",
        },
        "retrain": {"epochs": 1, "schedule": "theirs:tiny"},
        "pruning": {"phases": 2, "score": "theirs:by_size"},
        "soup": {"rule": "theirs:best_two"},
        "records": {"tensorboard": False},
    }
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(settings))
    words = ["--config", tmp_path / "theirs.yaml", "--run-dir", tmp_path / "run"]
    finished = launch_forked(MAIN, words, tmp_path, ranks=2, timeout=200)
    assert finished.status == 0, finished
    phases = json.loads((tmp_path / "run" / "summary.json").read_text())["phases"]
    assert [round(phase["sparsity"], 3) for phase in phases] == [0.684, 0.9]
    metrics = json.loads((tmp_path / "run" / "phase_2" / "soup" / "metrics.json").read_text())
    assert sorted(metrics["coefficients"].values()) == [0.0, 0.5, 0.5]


def data_config(name, **keys):
    return DataConfig(name=f"theirs:{name}", validation=0.0, **keys)


def test_a_data_set_says_what_it_is():
    info = data.described(data_config("Blobs"))
    assert (info.num_train, info.num_test, info.input_shape) == (60, 60, (3,))
    assert (info.classes, info.task) == (("0", "1"), "classification")
    info = data.described(data_config("Masks"))
    assert (info.input_shape, info.classes) == ((1, 8, 8), ("dark", "light"))
    assert (info.task, info.void) == ("segmentation", 255)


def batch_of(name, **keys):
    config = data_config(name, **keys)
    loaders = data.load(config).loaders(60, torch.device("cpu"))
    (batch,) = loaders.train.epoch(stream(0, "order"), stream(0, "augmentation"))
    return batch


def test_its_samples_become_batches():
    points = own("theirs:Blobs", "x")("train").points
    batch = batch_of("Blobs")
    order = stream(0, "order").permutation(60)
    assert torch.equal(batch.inputs[0], points[order])
    assert batch.targets.tolist() == [i % 2 for i in order.tolist()]
    batch = batch_of("Pictures")
    assert batch.inputs[0].unique().tolist() == pytest.approx([-2.0, (200 / 255 - 0.5) / 0.25])
    assert batch_of("Masks").targets.shape == (60, 8, 8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "returned a .*iterator for 'train', not a map-style torch Dataset"),
        ("Odd", r"train: sample 7 is torch.float32 \(4,\), the first one torch.float32 \(3,\)"),
        ("TooMany", "a target is 1, and there are 1 classes, from 0 on"),
        ("TwoValues", "all masks consist of 0 and 255, which is void; give 0 and 1"),
        ("Halves", "train: a target is 0.5, which is no class number"),
    ],
)
def test_what_is_wrong_with_a_data_set_is_one_line(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        batch_of(name)
    assert "\n" not in str(caught.value)


def test_pictures_of_any_mode_have_8_bits_and_palettes_their_colours():
    made = own("theirs:Modes", "x")("train")
    mode = made.mode
    wanted = {
        "1": [(0, 255)], "L": [124], "P": [200, 100, 50], "RGB": [200, 100, 50],
        "RGBA": [200, 100, 50, 255], "CMYK": [55, 155, 205, 0],
        **{kind: [200] for kind in ("I;16", "I;16L", "I;16B")},
    }  # fmt: skip
    for mode[0], bands in wanted.items():
        pixels = _input(made[0][0], "x")
        assert pixels.shape == (len(bands), 8, 9)
        for channel, band in zip(pixels, bands, strict=True):
            assert set(channel.unique().tolist()) <= {*np.atleast_1d(band).tolist()}
    for mode[0], message in (
        ("I", "x has an image of mode I has no range"),
        ("F", "x has an image of mode F has no range"),
        ("array", r"array of \(3, 8, 9\) as input; give height x width"),
        ("turned", "apply PIL.ImageOps.exif_transpose"),
    ):
        with pytest.raises(ValueError, match=message):
            _input(made[0][0], "x")


def test_an_augmentation_draws_by_sample_whatever_the_batch():
    image = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    ids, targets, epoch = torch.tensor([5, 9, 2]), torch.zeros(3), stream(0, "x")
    change = own_augmentation("theirs:noise")
    together, _ = change(image, targets, ids, epoch)
    alone, _ = change(image[:1], targets[:1], ids[1:2], epoch)
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])
    before = torch.random.get_rng_state()
    assert not torch.equal(change(image, targets, ids, stream(1, "x"))[0], together)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(ValueError, match=r"wrong_kind returned torch.float32"):
        own_augmentation("theirs:wrong_kind")(image, targets, ids, epoch)


def test_an_augmentation_moves_masks_with_their_images():
    image = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4)
    images, masks = own_augmentation("theirs:mirrored")(
        image, image[:, 0], torch.tensor([0]), stream(0, "x")
    )
    assert images.flatten().tolist() == masks.flatten().tolist() == [3, 2, 1, 0]


def test_an_augmentation_of_torchvision_is_one_of_ones_own():
    flip = own_augmentation("torchvision.transforms.v2:RandomHorizontalFlip")
    image = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4).repeat(40, 1, 1, 1)
    images, _ = flip(image, torch.zeros(40), torch.arange(40), stream(0, "x"))
    assert 8 < int((images[:, 0, 0, 0] == 3).sum()) < 32


def test_a_method_is_a_function_to_phases():
    config = Config.model_validate({"method": {"name": "theirs:two_steps", "first": 0.25}})
    phases = recipe(config).phases
    assert [phase.sparsity for phase in phases] == [0.25, 0.9]
    assert len(phases[0].candidates) == config.candidates.count
    with pytest.raises(ValueError, match="got an unexpected keyword argument 'frist'"):
        recipe(Config.model_validate({"method": {"name": "theirs:two_steps", "frist": 0.25}}))
    with pytest.raises(ValueError, match="theirs:no_method returned a str; return a Recipe"):
        recipe(Config.model_validate({"method": {"name": "theirs:no_method"}}))


def test_a_data_set_a_task_a_method_and_a_score_of_ones_own_in_a_run(tmp_path):
    settings = {
        "data": {"name": "theirs:Guesses", "batch_size": 8, "validation": 0.2},
        "model": {"name": "theirs:linear"},
        "pretrain": {"epochs": 8, "optimizer": "torch.optim:RMSprop", "learning_rate": 0.003},
        "retrain": {"epochs": 2},
        "method": {"name": "theirs:two_steps", "first": 0.3},
        "pruning": {"goal_sparsity": 0.5},
        "soup": {"rule": "greedy", "score": "theirs:cautious"},
        "records": {"tensorboard": False},
    }
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(settings))
    words = ["--config", tmp_path / "theirs.yaml", "--run-dir", tmp_path / "run"]
    finished = launch_forked(MAIN, words, tmp_path, timeout=200)
    assert finished.status == 0, finished
    phases = json.loads((tmp_path / "run" / "summary.json").read_text())["phases"]
    assert [round(phase["sparsity"], 2) for phase in phases] == [0.3, 0.5]
    assert phases[-1]["soup"]["test_accuracy"] > 0.9


def test_an_allocation_or_a_schedule_that_does_not_add_up_is_refused():
    weights = {"a": torch.arange(4.0), "b": torch.arange(4.0)}
    full = full_mask(weights, weights)
    with pytest.raises(ValueError, match="keeps 2 weights in 2 layers, and 4 have to stay in 2"):
        tighten(weights, full, 0.5, allocation="theirs:too_few")
    with pytest.raises(ValueError, match="keeps 4 weights in 1 layers, and 4 have to stay in 2"):
        tighten(weights, full, 0.5, allocation="theirs:only_one")
    with pytest.raises(ValueError, match="theirs:short gives 3 rates for 4 steps, or some that"):
        pretraining_rates(Curve("theirs:short", 2, 1.0), 2)
    with pytest.raises(ValueError, match=r"retrain.schedule=theirs:endless gives 3 rates for 3"):
        retraining_rates("theirs:endless", Retraining(History((1.0,), 1), 1), 3, 0.0)


def test_the_state_of_an_optimizer_comes_back_with_its_bits():
    """Also what it keeps in a group, and in other types than the weights'."""
    settings = optimizer_settings(Config().pretrain)
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    one, other = (optimizer_maker("theirs:Counting")([p], settings) for p in (first, second))
    for _ in range(3):
        first.grad = torch.full((3,), 0.3)
        one.step()
    restore_optimizer_state_(optimizer_state(one, [first]), other, [second])
    assert other.param_groups[0]["k"] == 3
    memory, again = one.state[first]["memory"], other.state[second]["memory"]
    assert memory.dtype == again.dtype == torch.bfloat16
    assert torch.equal(memory, again)
    with pytest.raises(ValueError, match=r"theirs:Forgetful remembers last as a float, and only"):
        optimizer_maker("theirs:Forgetful")([first], settings)
    with pytest.raises(ValueError, match=r"LBFGS cannot take a step: .*closure"):
        optimizer_maker("torch.optim:LBFGS")([first], settings)


def test_masks_may_be_images_and_inputs_arrays():
    assert batch_of("Drawn").targets.unique().tolist() == [0, 1]
    assert batch_of("Drawn").inputs[0].dtype == torch.float32


def test_whole_numbers_are_inputs_as_they_are_and_pixels_stay_pixels():
    for given in (torch.tensor([[7, 300]]), np.array([[7, 300]], np.int16), [[7, 300]]):
        assert _input(given, "x").dtype == torch.int64
        assert _input(given, "x").tolist() == [[7, 300]]
    assert _input(torch.ones(1, 2, 2, dtype=torch.uint8), "x").dtype == torch.uint8
    assert _input(torch.ones(3, dtype=torch.bool), "x").dtype == torch.float32
    with pytest.raises(ValueError, match="ndarray of uint16 as input"):
        _input(np.ones((4, 4), np.uint16), "x")
    batch = batch_of("Tokens")
    assert batch.inputs[0].dtype == torch.int64
    assert batch.inputs[0].amax() == 100_000_061  # no float32 has this number
    assert data.described(data_config("Tokens")).has_numbers


def test_own_files_are_all_that_lies_together_and_nothing_that_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # torch has modules whose file is no path, `_classes.py`
    (tmp_path / "entry.py").write_text("from helper_of_mine import f\nfrom plain.deep import g")
    (tmp_path / "helper_of_mine.py").write_text("def f(): ...")
    (tmp_path / "plain").mkdir()  # a package without __init__.py
    (tmp_path / "plain" / "deep.py").write_text("def g(): ...")
    (tmp_path / "unused.py").write_text("")
    own("entry:f", "x")
    values = {"a": ["entry:f", "torch.optim:SGD"], "b": {"c": "yaml:safe_load", "d": 3}}
    assert [*own_files(values)] == ["entry.py", "helper_of_mine.py", "plain/deep.py"]
    assert own_files({"a": "plain.deep:g"}).keys() == {"plain/deep.py", *own_files(values)}


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("data", "augment", "theirs:nois", "data.augment=theirs:nois: .* did you mean noise"),
        ("data", "augment", "flip", "data.augment=flip is no package.module:function"),
        ("soup", "rule", "gredy", "soup.rule=gredy .*greedy.*, or package.module:function$"),
        ("pretrain", "optimizer", "adan", "=adan .*adamw.*, or package.module:function$"),
        ("pruning", "score", "size", "pruning.score=size .*, or package.module:function$"),
        ("pretrain", "loss", "theirs:ORACLES", "has no function ORACLES$"),
        ("method", "name", "math:pi", "has no function pi$"),
    ],
)
def test_a_plan_refuses_names_of_nothing_with_a_way_out(section, key, value, message):
    config = Config.model_validate({section: {key: value}})
    with pytest.raises(ValueError, match=message) as caught:
        check(config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.name=os:listdir", "raised FileNotFoundError: "),
        ("data.name=theirs:breaks", r"raised KeyError: 'train' \(.*theirs.py, line \d+\); mend it"),
        ("data.name=theirs:no_pairs", "sample 0 is a int, not a pair; return"),
        ("data.name=theirs:words_as_targets", "has targets that are no class numbers: .*'cat'"),
        ("data.name=theirs:BreaksAtASample", r"raised OSError: no disk \(.*theirs.py, line \d+\)"),
        ("model.name=os:listdir", "cannot be called with"),
        ("model.name=theirs:breaks_later", "raised RuntimeError: of mine"),
        ("method.name=os.path:join", "raised TypeError: "),
        ("pretrain.schedule=math:floor", "raised TypeError: "),
        ("pretrain.optimizer=math:floor", "raised TypeError: "),
        ("pretrain.loss=cross", "is no package.module:function; name a function like this"),
        ("pretrain.loss=theirs:flat", "is called with .outputs, targets.: too many"),
        ("retrain.schedule=math:floor", "raised TypeError: "),
        ("candidates.vary={schedule: [llr, clr, 'math:floor']}", "raised TypeError: "),
        ("pruning.score=math:floor", "raised TypeError: "),
        ("pruning.allocation=theirs:flat", "is called with .layers, num_kept.: too many"),
        ("soup.rule=theirs:flat", "is called with .scores, score_of.: too many"),
        ("soup.score=theirs:halves", "is called with .metrics.: missing a required argument"),
        ("data.augment=theirs:mirrored", "is called with .image.: missing a required argument"),
    ],
)
def test_an_own_function_that_cannot_be_meant_is_one_line_of_the_plan(setting, message):
    result = CliRunner().invoke(cli, ["plan", "--set", setting])
    assert result.exit_code == 2, result.output
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    name = re.escape(setting) if setting.count("=") == 1 and "{" not in setting else ".*math:floor"
    assert re.match(f"error: {name}.*{message}", result.stderr), result.stderr


def test_an_own_function_that_breaks_in_a_run_is_one_line(tmp_path):
    settings = {"data": {"name": "digits"}, "pruning": {"allocation": "theirs:breaks_at_work"}}
    settings |= {"pretrain": {"epochs": 1}, "records": {"tensorboard": False}}
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump(settings))
    words = ["--config", tmp_path / "theirs.yaml", "--run-dir", tmp_path / "run"]
    finished = launch_forked(MAIN, words, tmp_path, timeout=200)
    assert finished.status == 1, finished
    (line,) = [line for line in finished.err.splitlines() if line.startswith("error")]
    assert "pruning.allocation=theirs:breaks_at_work raised ZeroDivisionError" in line
    assert "Traceback" not in finished.err
