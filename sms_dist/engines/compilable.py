"""What cannot be compiled, as far as one can tell without torch."""

from __future__ import annotations


def shape_obstacle(task: str) -> str | None:
    """Why the steps of a task cannot be compiled, if so."""
    if task != "translation":
        return None
    return "code is made for each shape, and sentences differ in length from step to step"
