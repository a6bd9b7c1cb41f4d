"""A method: a function from the configuration to a recipe, with the keys that only it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from sms_dist.config import Config, MethodConfig
from sms_dist.config_section import Section
from sms_dist.lookup import nearest
from sms_dist.phases import Recipe


class NoKeys(Section):
    """A method that knows none but its name."""


@dataclass(frozen=True)
class Method:
    """`recipe` is called with the configuration and every key of `keys` by name."""

    about: str
    recipe: Callable[..., Recipe]
    keys: type[Section] = NoKeys

    def __call__(self, config: Config) -> Recipe:
        return self.recipe(config, **self._values(config.method))

    def _values(self, given: MethodConfig) -> dict[str, object]:
        try:
            return self.keys.model_validate(given.keys).model_dump()
        except ValidationError as error:
            raise ValueError(self._complaint(given, error)) from None

    def _complaint(self, given: MethodConfig, error: ValidationError) -> str:
        first = error.errors()[0]
        key, legal = str(first["loc"][0]), ["name", *self.keys.model_fields]
        if first["type"] == "extra_forbidden":
            return (
                f"method.{key} is not a key of method.name={given.name}{nearest(key, legal)}; "
                f"legal: {', '.join(legal)}"
            )
        return f"method.{key}={first['input']!r} {first['msg'].removeprefix('Input ')}"


def goal_sparsity(config: Config) -> float:
    """The goal; ValueError where none is given to a method that needs one."""
    goal = config.pruning.goal_sparsity
    if goal is None:
        raise ValueError(
            f"pruning.goal_sparsity=null, but method.name={config.method.name} prunes to a goal; "
            "give one, for example 0.9"
        )
    return goal
