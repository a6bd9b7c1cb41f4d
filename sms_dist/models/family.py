"""What is known of a model before it is built: its task, the inputs and the options it takes."""

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
        """Whether inputs of this shape fit."""
        if self.input_shape is None:
            return True
        return len(self.input_shape) == len(input_shape) and all(
            wanted in (None, given)
            for wanted, given in zip(self.input_shape, input_shape, strict=True)
        )

    def does(self, task: str) -> bool:
        return self.task in (None, task)


def inputs_text(shape: Pattern) -> str:
    """(3, None, None) -> "3xHxW images"; (128,) -> "sentences of 128 tokens"."""
    if len(shape) == 1:
        return f"sentences of {'any number of' if shape[0] is None else shape[0]} tokens"
    letters = "CHW" if len(shape) == 3 else "?" * len(shape)
    pairs = zip(letters, shape, strict=True)
    return "x".join(letter if size is None else str(size) for letter, size in pairs) + " images"


MOST = 1 << 16  # of a width or a number of layers: beyond it sizes overflow
MOST_LAYERS = 200  # of all stages together: building takes time even without memory for weights
_NO_TYPE = (inspect.Parameter.empty, None)  # defaults that say nothing of the type


def check_options(
    build: Callable[..., Any], options: Mapping[str, Any], input_shape: tuple[int, ...], name: str
) -> None:
    """ValueError where `build(input_shape, num_classes, **options)` is no call of it.

    An option is a keyword-only argument, its type that of the default.
    """
    signature = inspect.signature(build)
    parameters = signature.parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        for key, value in options.items():
            _check_type(key, value, lookup(defaults, key, "model.options"))
            if ":" not in name:  # of a function of the user's own we know no limits
                _check_size(key, value, defaults[key])
    try:
        signature.bind(input_shape, 1, **options)
    except TypeError as error:
        raise ValueError(
            f"model.name={name}: its build function cannot be called with (input_shape,"
            f" num_classes, *, options): {error}"
        ) from None


def _check_type(key: str, value: Any, default: Any) -> None:
    if default in _NO_TYPE:
        return
    also = {float: int, tuple: list}.get(type(default), type(default))  # YAML has no tuples
    is_legal = isinstance(value, (type(default), also))
    if not is_legal or isinstance(value, bool) != isinstance(default, bool):
        kind = "list" if also is list else type(default).__name__
        place = f"model.options.{key}={shown(value)}"
        raise ValueError(f"{place} is no {kind}; the default is {default}")


def _check_size(key: str, value: Any, default: Any) -> None:
    numbers = value if isinstance(value, list | tuple) else [value]
    if isinstance(default, tuple) and (
        not all(type(number) is int for number in numbers) or sum(numbers) > MOST_LAYERS
    ):
        raise ValueError(
            f"model.options.{key}={shown(value)} is no list of whole numbers that add up to"
            f" {MOST_LAYERS} at most; the default is {default}"
        )
    if key == "dropout" and not 0 <= value < 1:
        raise ValueError(
            f"model.options.dropout={shown(value)} must lie in [0, 1); {default} is usual"
        )
    most = MOST_LAYERS if key == "num_layers" else MOST
    if any(isinstance(number, int | float) and abs(number) > most for number in numbers):
        raise ValueError(f"model.options.{key}={shown(value)} is more than {most}; lower it")
