"""What tables have to know of a method: its name in the paper and which keys concern it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MethodFacts:
    label: str
    candidates: Literal["none", "count", "all"] = "none"  # keys of that section that matter
    has_rule: bool = False

    @property
    def has_m(self) -> bool:
        return self.candidates != "none"


# In the order in which tables show them.
METHODS = {
    "dense": MethodFacts("dense"),
    "sms": MethodFacts("SMS", "all", has_rule=True),
    "imp_m_times": MethodFacts("IMP_mx", "count"),
    "imp_m_phases": MethodFacts("IMP with m phases", "count"),
    "imp_reprune": MethodFacts("IMP-RePrune", "all"),
    "imp": MethodFacts("IMP"),
    "imp_swa": MethodFacts("IMP + SWA"),
    "swamp": MethodFacts("SWAMP", "all", has_rule=True),
    "swamp_plus": MethodFacts("SWAMP+", "all", has_rule=True),
    "bimp_sms": MethodFacts("BIMP+SMS", "all", has_rule=True),
    "bimp": MethodFacts("BIMP"),
    "gmp_sms": MethodFacts("GMP+SMS", "all", has_rule=True),
    "gmp": MethodFacts("GMP"),
    "dpf_sms": MethodFacts("DPF+SMS", "all", has_rule=True),
    "dpf": MethodFacts("DPF"),
    "gsm": MethodFacts("GSM"),
    "dnw": MethodFacts("DNW"),
    "lc": MethodFacts("LC"),
    "dst": MethodFacts("DST"),
    "str": MethodFacts("STR"),
}
RULES = ("uniform", "greedy", "best", "learned", "distilled")
ORDER = {name: place for place, name in enumerate(METHODS)}


def facts(name: str) -> MethodFacts:
    """Of a method that no table knows: every key may matter."""
    return METHODS.get(name) or MethodFacts(name, "all", has_rule=True)


def order(name: str) -> tuple[int, str]:
    """For sorting: the table's order, then the others by name."""
    return ORDER.get(name, len(ORDER)), name


def rule_order(rule: str) -> tuple[int, str]:
    return RULES.index(rule) if rule in RULES else len(RULES), rule
