"""A mask that holds while a Trainer of Lightning trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sms_dist.base import vision
from sms_dist.pruning.hold import Hold, hold
from sms_dist.pruning.mask import Mask

vision.mend()  # it imports torchvision
try:
    from lightning.pytorch import Callback
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "lightning":
        raise
    message = "lightning is not installed; pip install 'sms_dist[lightning]'"
    raise ModuleNotFoundError(message, name=error.name) from None

SHARDING = {"FSDPStrategy", "ModelParallelStrategy", "XLAFSDPStrategy"}
WAY_OUT = "resume with its mask, or load its weights and train without ckpt_path"


class HoldMask(Callback):  # type: ignore[misc]
    """Keep what a mask prunes exactly zero while a Trainer fits: `callbacks=[HoldMask(mask)]`.

    The module is pruned when `fit` begins, and checked and released when it ends. Trainers of
    pytorch_lightning take it in a list.

    Raises ValueError as `sms_dist.hold` does, where `fit` resumes from a checkpoint of another
    mask, where a strategy shards the module (FSDP), and where a pruned weight is not zero at the
    end.
    """

    def __init__(self, mask: Mapping[str, Tensor]) -> None:
        """Take a mask by the names of the LightningModule, such as `prune` makes of it."""
        self.mask = Mask(mask)
        self._hold: Hold | None = None

    def release(self) -> None:
        """Let the pruned weights train again."""
        if self._hold is not None:
            self._hold.release()
        self._hold = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage != "fit":
            return
        names = {base.__name__ for base in type(trainer.strategy).__mro__}
        if shards := sorted(names & SHARDING):
            raise ValueError(f"{shards[0]} shards the weights, which hold cannot; use DDP or ZeRO")
        self.release()
        self._hold = hold(pl_module, self.mask)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.ckpt_path is not None and self._hold is not None:
            try:
                self._hold.check()
            except ValueError as error:
                what = str(error).partition(":")[0]
                raise ValueError(f"the checkpoint is of another mask: {what}; {WAY_OUT}") from None

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        if self._hold is not None:
            self._hold.check()
        self.release()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.release()

    def state_dict(self) -> dict[str, Any]:
        return {"mask": self.mask.digest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._hold is not None and state_dict["mask"] != self.mask.digest:  # while it fits
            raise ValueError(f"the checkpoint is of another mask; {WAY_OUT}")
