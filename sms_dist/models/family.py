"""What is known of a model before it is built: its task and the inputs it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

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
