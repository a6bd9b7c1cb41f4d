"""A method is a function from the configuration to a recipe: pretraining and phases."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model

from sms_dist.base.lookup import guarded, lookup_open, nearest
from sms_dist.base.plain import shown
from sms_dist.config import Config
from sms_dist.config.file import problem
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
    StartKeys,
    bimp,
    bimp_sms,
    gradual,
    gradual_sms,
    single_training,
)
from sms_dist.methods.phases import Phase, Recipe, SparseTraining, after_training
from sms_dist.schedules.sparsity import fraction_per_phase, geometric
from sms_dist.sparse_rules import RULES, rule_class


@dataclass(frozen=True)
class Method:
    """A method of the table.

    `recipe` is called with the configuration, the `SparseTraining` where there is a rule, and every
    key of `own` by name.
    """

    about: str
    recipe: Callable[..., Recipe]
    own: type[Section] = Section
    rule: str | None = None  # the sparse training rule whose options are keys, too

    @property
    def keys(self) -> type[Section]:
        """The keys beside `method.name`, with types, limits and defaults."""
        if self.rule is None:
            return self.own
        rule = rule_class(self.rule)
        types = get_type_hints(rule.options, include_extras=True)
        values: Any = {each.name: (types[each.name], each.default) for each in fields(rule.options)}
        base = StartKeys if rule.may_start_dense else self.own
        return create_model(f"{self.rule}Keys", __base__=base, **values)

    def __call__(self, config: Config) -> Recipe:
        """Return the method's recipe; ValueError for keys that it does not know."""
        keys = self.keys
        try:
            values = keys.model_validate(config.method.keys).model_dump()
        except ValidationError as error:
            raise _wrong_key(config.method.name, keys, error) from None
        if self.rule is None:
            return self.recipe(config, **values)
        names = [each.name for each in fields(rule_class(self.rule).options)]
        options = {name: values.pop(name) for name in names}
        return self.recipe(config, SparseTraining(self.rule, options), **values)


def _wrong_key(name: str, keys: type[Section], error: ValidationError) -> ValueError:
    first = error.errors()[0]
    key, valid = str(first["loc"][0]), ["name", *keys.model_fields]
    if first["type"] == "extra_forbidden":
        return ValueError(
            f"method.{key} is not a key of method.name={name}{nearest(key, valid)}; "
            f"valid values: {', '.join(valid)}"
        )
    return ValueError(f"method.{key}={shown(first['input'])} {problem(first)}")


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
    "gmp": Method("gradual magnitude pruning", gradual),
    "gmp_sms": Method("GMP with soups between pruning steps", gradual_sms, CopiesKeys),
    "dpf": Method(RULES["dpf"].about, gradual, rule="dpf"),
    "dpf_sms": Method("DPF with soups between pruning steps", gradual_sms, CopiesKeys, "dpf"),
}
METHODS |= {  # every other rule is the method of one training under it
    name: Method(rule.about, single_training, rule=name)
    for name, rule in RULES.items()
    if name not in METHODS
}
METHODS["dense"] = Method("nothing is pruned", dense)  # for comparison


def recipe(config: Config, start: float = 0.0) -> Recipe:
    """Return the recipe of the configured method; ValueError where it cannot be made.

    `start` is the sparsity of the weights that `pretrain.from` names.
    """
    methods: Mapping[str, Callable[[Config], Recipe]] = METHODS
    made = lookup_open(methods, config.method.name, "method.name", _own_method)(config)
    if config.pretrain.from_ is not None and not starts_from_dense(made, config):
        raise ValueError(
            f"pretrain.from={config.pretrain.from_}, but method.name={config.method.name} prunes "
            "while it trains, from the initial weights; remove pretrain.from"
        )
    phases = _from_sparse(config, made.phases, start) if start else made.phases
    return replace(made, phases=phases, kept_epoch=_kept_epoch(config, made))


def _from_sparse(config: Config, phases: tuple[Phase, ...], start: float) -> tuple[Phase, ...]:
    """Return phases that begin at the sparsity of the start; ValueError for those below it.

    Phases that a method makes by `cycles` remove equal fractions of what the start has left.
    """
    goal, sparsities = config.pruning.goal_sparsity, [phase.sparsity for phase in phases]
    begin = f"the {100 * start:.6g} % at which pretrain.from={config.pretrain.from_} is sparse"
    if not all(phase.has_fixed_mask for phase in phases):
        raise ValueError(
            f"method.name={config.method.name} moves its mask while it trains, and {begin} would "
            "not stay pruned; choose another method, or set pretrain.mask=none to begin dense"
        )
    is_even = goal is not None and sparsities == geometric(goal, len(phases))
    for phase in phases:
        wanted = goal if is_even else phase.sparsity
        if wanted is not None and wanted < start:
            what = f"phase {phase.index} of {config.method.name}: {wanted:.6g}"
            raise ValueError(
                f"{f'pruning.goal_sparsity={goal}' if is_even else what} is below {begin}; raise "
                "it, or set pretrain.mask=none to begin dense"
            )
    if goal is None or not is_even:
        return phases
    fraction = fraction_per_phase(goal, len(phases), start)
    return tuple(
        replace(phase, sparsity=sparsity, fraction=fraction)
        for phase, sparsity in zip(phases, geometric(goal, len(phases), start), strict=True)
    )


def _own_method(given: Callable[..., Any]) -> Callable[[Config], Recipe]:
    """Return the method of a function of the user's, which gets the configuration and its keys.

    The function returns a `Recipe`, or its phases, which then follow the whole of pretraining.
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


def starts_from_dense(recipe: Recipe, config: Config) -> bool:
    """Return whether the method begins with the fully trained dense model."""
    return recipe.pretrain == config.pretrain and recipe.dense_epochs == config.pretrain.epochs


def _kept_epoch(config: Config, made: Recipe) -> int | None:
    wanted, needed = config.pretrain.keep_epoch, made.kept_epoch
    if wanted is not None and needed is not None and wanted != needed:
        raise ValueError(
            f"pretrain.keep_epoch={wanted}, but method.name={config.method.name} rewinds to epoch "
            f"{needed}; remove it, or change retrain.epochs"
        )
    if wanted is not None and wanted > made.dense_epochs:
        raise ValueError(
            f"pretrain.keep_epoch={wanted} is after the {made.dense_epochs} epochs of dense "
            "training; lower it"
        )
    return wanted if needed is None else needed
