"""Checks `model.options` against the build function that gets them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from sms_dist.base.lookup import lookup
from sms_dist.base.plain import shown

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
