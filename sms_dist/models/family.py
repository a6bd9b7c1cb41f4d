"""Facts of a model before it is built: its task, the inputs and the options it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from sms_dist.base.lookup import lookup
from sms_dist.base.plain import shown

Pattern = tuple[int | None, ...]  # of an input's shape; None: any size


@dataclass(frozen=True)
class ModelFamily:
    """`build(input_shape, num_classes, **options)`; the options are its keyword-only arguments.

    `input_shape` is C, H, W of images, the most tokens of sentences; it and `task` are None where
    the model takes whatever there is. `num_classes` is the vocabulary's size for translation.
    """

    build: Callable[..., nn.Module]
    input_shape: Pattern | None
    task: str | None = "classification"

    def takes(self, input_shape: tuple[int, ...]) -> bool:
        """Return whether inputs of this shape fit."""
        if self.input_shape is None:
            return True
        return len(self.input_shape) == len(input_shape) and all(
            wanted in (None, given)
            for wanted, given in zip(self.input_shape, input_shape, strict=True)
        )

    def does(self, task: str) -> bool:
        """Return whether the model is for a task."""
        return self.task in (None, task)


def inputs_text(shape: Pattern) -> str:
    """Return inputs in words: (3, None, None) is 3xHxW images, (128,) sentences of 128 tokens."""
    if len(shape) == 1:
        return f"sentences of {'any number of' if shape[0] is None else shape[0]} tokens"
    letters = "CHW" if len(shape) == 3 else "?" * len(shape)
    pairs = zip(letters, shape, strict=True)
    return "x".join(letter if size is None else str(size) for letter, size in pairs) + " images"


MOST = 1 << 16  # of a width or a number of layers: beyond it sizes overflow
MOST_LAYERS = 200  # of all stages together: building takes time even without memory for weights
PROBABILITIES = ("dropout", "stochastic_depth")
_NO_TYPE = (inspect.Parameter.empty, None)  # defaults that say nothing of the type


def check_options(
    build: Callable[..., Any], options: Mapping[str, Any], input_shape: tuple[int, ...], name: str
) -> None:
    """Raise ValueError where `build(input_shape, num_classes, **options)` is no call of it.

    An option is a keyword-only argument, its type that of the default. Numbers of our own models
    have limits, too.
    """
    signature = inspect.signature(build)
    parameters = signature.parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        for key, value in options.items():
            default = lookup(defaults, key, "model.options")
            problem = _type_problem(value, default)
            if problem is None and ":" not in name:  # users' own functions have unknown limits
                problem = _size_problem(key, value, default)
            if problem is not None:
                raise ValueError(f"model.options.{key}={shown(value)} {problem}")
    try:
        signature.bind(input_shape, 1, **options)
    except TypeError as error:
        raise ValueError(
            f"model.name={name}: its build function cannot be called with (input_shape,"
            f" num_classes, *, options): {error}"
        ) from None


def _type_problem(value: Any, default: Any) -> str | None:
    if default in _NO_TYPE:
        return None
    also = {float: int, tuple: list}.get(type(default), type(default))  # YAML has no tuples
    if isinstance(value, (type(default), also)) and isinstance(value, bool) == isinstance(
        default, bool
    ):
        return None
    return f"is no {'list' if also is list else type(default).__name__}; the default is {default}"


def _size_problem(key: str, value: Any, default: Any) -> str | None:
    numbers = value if isinstance(value, list | tuple) else [value]
    if isinstance(default, tuple) and (
        not all(type(number) is int for number in numbers) or sum(numbers) > MOST_LAYERS
    ):
        return (
            f"is no list of whole numbers that add up to {MOST_LAYERS} at most; the default is "
            f"{default}"
        )
    if key in PROBABILITIES and not 0 <= value < 1:
        return f"must lie in [0, 1); the default is {default}"
    if type(default) is int and value < 1:
        return f"must be at least 1; the default is {default}"
    most = MOST_LAYERS if key == "num_layers" else MOST
    if any(isinstance(number, int | float) and abs(number) > most for number in numbers):
        return f"is more than {most}; lower it"
    return None
