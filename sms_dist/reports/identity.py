"""Which experiment a configuration is: the keys that matter to its method, without the seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sms_dist.config import Config, DataConfig
from sms_dist.config.compare import flatten
from sms_dist.reports.method_facts import facts

Identity = dict[str, Any]

# Where the work was done, what was measured besides, where weights lay, what to do about a
# candidate that diverges: not what was done.
NOT_DECIDING = {
    "candidates.far",
    "candidates.on_divergence",
    "candidates.retries",
    "data.cache",
    "data.corrupt_candidates",
    "data.corruptions",
    "data.loader",
    "data.path",
    "data.prefetch",
    "data.remote",
    "data.subgroup",
    "data.subgroups",
    "data.workers",
    "pretrain.from",
    "pretrain.history",
    "pretrain.keep_epoch",
    "pretrain.ranks",
    "soup.ensemble",
    "soup.loss_barrier",
    "soup.pairs",
}
UNNAMED_DATA = ("card", "parallel")  # all sets have this name: their folder's tells them apart
FITTED_RULES = ("learned", "distilled")  # that soup.steps and soup.learning_rate concern
COMPARING_RULES = ("greedy", "best")  # that soup.score concerns


def identity(config: Config) -> Identity:
    """key.path -> value of all that decides the result and may differ between methods' runs."""
    dumped = config.model_dump(mode="json", by_alias=True, exclude={"name", "seed", "records"})
    flat = flatten(dumped) | {"data.name": data_name(config.data)}
    return {key: value for key, value in flat.items() if _matters(config, key)}


def data_name(config: DataConfig) -> str:
    """Of a data set, wherever it lies."""
    if config.name in UNNAMED_DATA and config.path:
        return Path(config.path).name
    return config.name


def _matters(config: Config, key: str) -> bool:
    section, _, rest = key.partition(".")
    method = facts(config.method.name)
    if key in NOT_DECIDING or key.startswith("data.subgroups."):
        return False
    if section == "engine":
        return rest in ("precision", "accumulation")
    if section == "soup":
        return method.has_rule and _rule_matters(config.soup.rule, rest)
    if section == "candidates":
        return _candidates_matter(config, rest)
    if section in ("pruning", "retrain"):
        return config.method.name != "dense"
    return True


def _rule_matters(rule: str, key: str) -> bool:
    if key == "score":
        return rule in COMPARING_RULES
    return key == "rule" or rule in FITTED_RULES


def _candidates_matter(config: Config, key: str) -> bool:
    concerned = facts(config.method.name).candidates
    if key == "count":
        return concerned != "none" and not config.candidates.count_per_phase
    return concerned == "all" or (concerned == "count" and key == "count_per_phase")


def key_of(values: Mapping[str, Any], wanted: Callable[[str], bool] = lambda key: True) -> str:
    """The wanted part of an identity as something to compare and sort by."""
    return json.dumps({key: values[key] for key in sorted(values) if wanted(key)})


def differing(identities: Iterable[Identity]) -> list[str]:
    """The keys that do not have the same value in all of them."""
    items = list(identities)
    keys = sorted({key for item in items for key in item})
    return [key for key in keys if len({json.dumps(item.get(key)) for item in items}) > 1]
