"""The runs that trials disturb: tiny, with recovery points every few steps."""

from __future__ import annotations

from dataclasses import dataclass

COMMON = (
    "pretrain.epochs=4",
    "retrain.epochs=4",
    "candidates.count=3",
    "records.every_steps=5",
)


@dataclass(frozen=True)
class Variant:
    """One way to run; `ranks` in all, of which `per_candidate` train one candidate."""

    name: str
    ranks: int
    per_candidate: int
    settings: tuple[str, ...]

    @property
    def all_settings(self) -> tuple[str, ...]:
        return (*COMMON, f"engine.ranks_per_candidate={self.per_candidate}", *self.settings)


ZERO_1 = ("engine.name=deepspeed", "engine.zero_stage=1")
VARIANTS = {
    "ddp": Variant("ddp", ranks=2, per_candidate=1, settings=()),  # two groups
    "zero_1": Variant("zero_1", ranks=2, per_candidate=2, settings=ZERO_1),  # two shards
    "square": Variant("square", ranks=4, per_candidate=2, settings=ZERO_1),  # both
}
CHOICES = {name: (name,) for name in VARIANTS} | {"both": ("ddp", "zero_1")}
