"""Sparse Model Soups: prune, retrain m copies side by side, average them, prune harder.

`import sms_dist as sms` has the names below, for training loops of your own: see docs/library.md.
They are imported when they are used, so that `import sms_dist` and `sms-dist --help` stay quick.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sms_dist.base.randomness import seed
    from sms_dist.base.weights_file import load
    from sms_dist.callbacks.phases import soup_phases
    from sms_dist.mesh.mesh import Mesh
    from sms_dist.pruning.hold import Hold, hold
    from sms_dist.pruning.mask import Mask
    from sms_dist.pruning.prune import prune
    from sms_dist.schedules.scheduler import schedule
    from sms_dist.schedules.sparsity import sparsities
    from sms_dist.soups.merge import Soup
    from sms_dist.soups.norms import recompute_norms
    from sms_dist.soups.soup import loss_barrier, soup
    from sms_dist.soups.states import State, load_, weights

__version__ = "0.1.0"
__all__ = [
    "Hold",
    "Mask",
    "Mesh",
    "Soup",
    "State",
    "__version__",
    "hold",
    "load",
    "load_",
    "loss_barrier",
    "prune",
    "recompute_norms",
    "schedule",
    "seed",
    "soup",
    "soup_phases",
    "sparsities",
    "weights",
]
_MODULES = {
    "base.randomness": ("seed",),
    "base.weights_file": ("load",),
    "callbacks.phases": ("soup_phases",),
    "mesh.mesh": ("Mesh",),
    "pruning.hold": ("Hold", "hold"),
    "pruning.mask": ("Mask",),
    "pruning.prune": ("prune",),
    "schedules.scheduler": ("schedule",),
    "schedules.sparsity": ("sparsities",),
    "soups.merge": ("Soup",),
    "soups.norms": ("recompute_norms",),
    "soups.soup": ("loss_barrier", "soup"),
    "soups.states": ("State", "load_", "weights"),
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    for module, names in _MODULES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value  # so that this is called once for a name
            return value
    from difflib import get_close_matches

    close = get_close_matches(name, __all__, n=1)
    hint = f", did you mean {close[0]}?" if close else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
