"""The base of the sections of a configuration, and the types of their values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict

from sms_dist.base.plain import at_home

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
# Plans have a line, or schedules a number, for each; more is a slip of the keyboard.
Epochs = Annotated[int, Field(ge=0, le=100_000)]
Few = Annotated[int, Field(ge=1, le=1_000)]
Above0 = Annotated[float, Field(gt=0)]
AtLeast0 = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
FilePath = Annotated[str, AfterValidator(at_home)]
# YAML has lists only.
Integers = Annotated[tuple[int, ...], Strict(False)]
Counts = Annotated[tuple[Few, ...], Strict(False)]
Names = Annotated[tuple[str, ...], Strict(False)]
Size = Annotated[tuple[Count, Count], Strict(False)]
Pair = Annotated[tuple[str, str], Strict(False)]
Overrides = Annotated[tuple[dict[str, Any], ...], Strict(False)]


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no coercion, no change after it is made."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
