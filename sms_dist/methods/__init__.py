"""A method is a function from the configuration to a recipe: pretraining and phases."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model

from sms_dist.base.lookup import guarded, lookup_open, nearest
from sms_dist.config import Config, MethodConfig
from sms_dist.config.section import Section
from sms_dist.methods.after_training import (
    SwampKeys,
    dense,
    imp,
    imp_m_phases,
    imp_m_times,
    imp_reprune,
    imp_swa,
    sms,
    swamp,
    swamp_plus,
)
from sms_dist.methods.during_training import (
    BimpKeys,
    CopiesKeys,
    bimp,
    bimp_sms,
    dpf,
    dpf_sms,
    gmp,
    gmp_sms,
)
from sms_dist.methods.phases import Phase, Recipe, after_training
from sms_dist.methods.single_training import StartKeys, dnw, dst, gsm, lc, str_
from sms_dist.sparse_rules import rule_class


class NoKeys(Section):
    """A method that knows none but its name."""


@dataclass(frozen=True)
class Method:
    """`recipe` is called with the configuration and every key of `keys` by name."""

    about: str
    recipe: Callable[..., Recipe]
    own: type[Section] = NoKeys
    rule: str | None = None  # the sparse training rule whose options are keys, too

    @property
    def keys(self) -> type[Section]:
        """The keys beside `method.name`, with types, limits and defaults."""
        if self.rule is None:
            return self.own
        options = rule_class(self.rule).options
        types = get_type_hints(options, include_extras=True)
        values: Any = {field.name: (types[field.name], field.default) for field in fields(options)}
        checked = create_model(options.__name__, __base__=Section, **values)
        return create_model(self.own.__name__, __base__=(self.own, checked))

    def __call__(self, config: Config) -> Recipe:
        return self.recipe(config, **self._values(config.method))

    def _values(self, given: MethodConfig) -> dict[str, object]:
        keys = self.keys
        try:
            return keys.model_validate(given.keys).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
        key, legal = str(first["loc"][0]), ["name", *keys.model_fields]
        if first["type"] == "extra_forbidden":
            raise ValueError(
                f"method.{key} is not a key of method.name={given.name}{nearest(key, legal)}; "
                f"valid values: {', '.join(legal)}"
            )
        raise ValueError(f"method.{key}={first['input']!r} {first['msg'].removeprefix('Input ')}")


METHODS: dict[str, Method] = {
    # after training
    "sms": Method("m candidates per phase, their soup starts the next", sms),
    "imp": Method("iterative magnitude pruning: one candidate per phase", imp),
    "imp_m_times": Method("IMP that retrains m times as long in each phase", imp_m_times),
    "imp_m_phases": Method("IMP in m times as many phases", imp_m_phases),
    "imp_reprune": Method("m IMP runs side by side, averaged and pruned again", imp_reprune),
    "imp_swa": Method("IMP that averages the weights after each epoch of a phase", imp_swa),
    "swamp": Method("rewound particles, each averaged on its way, then together", swamp, SwampKeys),
    "swamp_plus": Method("SWAMP with one particle in the early phases", swamp_plus, SwampKeys),
    # during training: pretrain.epochs is the whole budget
    "bimp": Method("IMP within the budget of one training", bimp, BimpKeys),
    "bimp_sms": Method("BIMP with a soup in each phase", bimp_sms, BimpKeys),
    "gmp": Method("gradual magnitude pruning", gmp),
    "gmp_sms": Method("GMP with soups between pruning steps", gmp_sms, CopiesKeys),
    "dpf": Method("gradual pruning in which pruned weights go on learning", dpf, rule="dpf"),
    "dpf_sms": Method("DPF with soups between pruning steps", dpf_sms, CopiesKeys, "dpf"),
    "gsm": Method("only the weights that matter most get a gradient", gsm, StartKeys),
    "dnw": Method("the largest weights compute, all of them learn", dnw),
    "lc": Method("weights drawn ever harder to their pruned selves", lc, StartKeys, "lc"),
    "dst": Method("a learned threshold for each neuron", dst, rule="dst"),
    "str": Method("a learned soft threshold for each layer", str_, rule="str"),
    # for comparison
    "dense": Method("nothing is pruned", dense),
}


def recipe(config: Config) -> Recipe:
    """The recipe of the configured method; ValueError where it cannot be."""
    methods: Mapping[str, Callable[[Config], Recipe]] = METHODS
    found = lookup_open(methods, config.method.name, "method.name", _own_method)(config)
    _check_from(config, found)
    return replace(found, kept_epoch=_kept_epoch(config, found))


def _own_method(given: Callable[..., Any]) -> Callable[[Config], Recipe]:
    """Return somebody's own method; it is called with the configuration and its own keys.

    It returns a `Recipe`, or its phases, which then follow the whole of pretraining.
    """

    def method(config: Config) -> Recipe:
        try:
            inspect.signature(given).bind(config, **config.method.keys)
        except TypeError as error:
            raise ValueError(f"method.name={config.method.name}: {error}") from None
        made = guarded(given, config.method.name, "method.name")(config, **config.method.keys)
        if isinstance(made, Recipe):
            return made
        if not isinstance(made, Sequence) or not all(isinstance(each, Phase) for each in made):
            raise ValueError(
                f"method.name={config.method.name} returned a {type(made).__name__}; return a "
                "Recipe, or a tuple of Phase"
            )
        return after_training(config, tuple(made))

    return method


def starts_from_dense(found: Recipe, config: Config) -> bool:
    """Does the method begin with the fully trained dense model?"""
    return found.pretrain == config.pretrain and found.dense_epochs == config.pretrain.epochs


def _check_from(config: Config, found: Recipe) -> None:
    if config.pretrain.from_ is not None and not starts_from_dense(found, config):
        raise ValueError(
            f"pretrain.from={config.pretrain.from_}, but method.name={config.method.name} prunes "
            "while it trains, from the initial weights; remove pretrain.from"
        )


def _kept_epoch(config: Config, found: Recipe) -> int | None:
    wanted, needed = config.pretrain.keep_epoch, found.kept_epoch
    if wanted is not None and needed is not None and wanted != needed:
        raise ValueError(
            f"pretrain.keep_epoch={wanted}, but method.name={config.method.name} rewinds to epoch "
            f"{needed}; remove it, or change retrain.epochs"
        )
    if wanted is not None and wanted > found.dense_epochs:
        raise ValueError(
            f"pretrain.keep_epoch={wanted} is after the {found.dense_epochs} epochs of dense "
            "training; lower it"
        )
    return wanted if needed is None else needed
