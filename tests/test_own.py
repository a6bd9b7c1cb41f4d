"""Functions and classes of people's own, in a file beside their configuration."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from sms_dist.base.lookup import lookup_open, own, search_beside
from sms_dist.config import Config
from sms_dist.engines.optimizers import optimizer_maker
from sms_dist.pruning.allocation import Ranking
from sms_dist.pruning.mask import full_mask
from sms_dist.pruning.patterns import tighten
from sms_dist.schedules.pretraining import Curve, pretraining_rates
from sms_dist.schedules.retraining import History, Retraining, retraining_rates
from sms_dist.soups.rules import rule
from sms_dist.training.meter import Seen, own_loss

sys.path.append(str(Path(__file__).parent / "distributed"))
from launching import MAIN, launched

SOURCE = '''
import torch
from torch import nn
from sms_dist.pruning.allocation import Ranking

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
    value, _ = Seen(task, 0.0, own_loss("theirs:mean_loss"))(logits, targets)
    assert torch.allclose(value, each.sum())
    value, _ = Seen(task, 0.0, own_loss("theirs:Focal"))(logits, targets)
    assert torch.allclose(value, ((1 - torch.exp(-each)) ** 2 * each).sum())
    assert own_loss(None) is None


def test_an_optimizer_is_given_what_it_takes():
    config = Config().pretrain.model_copy(update={"learning_rate": 0.25, "weight_decay": 0.5})
    weights = [torch.nn.Parameter(torch.ones(2))]
    made = optimizer_maker("theirs:adagrad")(weights, config, True)
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.25, 0.5)
    made = optimizer_maker("torch.optim:RMSprop")(weights, config, True)
    assert made.defaults["momentum"] == config.momentum
    with pytest.raises(ValueError, match=r"theirs:no_optimizer returned a list, not a torch.optim"):
        optimizer_maker("theirs:no_optimizer")(weights, config, True)


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
    with launched(MAIN, words, tmp_path, ranks=2) as launch:
        finished = launch.end(200)
    assert finished.status == 0, finished
    phases = json.loads((tmp_path / "run" / "summary.json").read_text())["phases"]
    assert [round(phase["sparsity"], 3) for phase in phases] == [0.684, 0.9]
    metrics = json.loads((tmp_path / "run" / "phase_2" / "soup" / "metrics.json").read_text())
    assert sorted(metrics["coefficients"].values()) == [0.0, 0.5, 0.5]
