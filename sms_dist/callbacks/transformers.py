"""A mask that holds while a Trainer of Hugging Face trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sms_dist.base import vision
from sms_dist.pruning.hold import Hold, bare, hold
from sms_dist.pruning.mask import Mask

vision.mend()  # it imports torchvision
try:
    from transformers import TrainerCallback
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    message = "transformers is not installed; pip install 'sms_dist[transformers]'"
    raise ModuleNotFoundError(message, name=error.name) from None

FILE = "mask.safetensors"


class HoldMask(TrainerCallback):  # type: ignore[misc]
    """Keep what a mask prunes exactly zero while a Trainer trains: `callbacks=[HoldMask(mask)]`.

    The model is pruned when training begins, under DeepSpeed when the Trainer is made; at the end
    its weights are checked and released. Each checkpoint gets the mask, as mask.safetensors.

    Raises ValueError as `sms_dist.hold` does, where training resumes from a checkpoint of another
    mask, and where a pruned weight is not zero at the end.
    """

    def __init__(self, mask: Mapping[str, Tensor]) -> None:
        """Take a mask by the names of the model that the Trainer is given."""
        self.mask = Mask(mask)
        self._hold: Hold | None = None
        self._model: nn.Module | None = None  # that is held

    def release(self) -> None:
        """Let the pruned weights train again: for training that was interrupted."""
        if self._hold is not None:
            self._hold.release()
        self._hold = self._model = None

    def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if args.deepspeed_plugin is not None:  # it copies the weights before training begins
            self._take(model)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **others: Any
    ) -> None:
        if state.global_step:
            self._check_resumed(_checkpoint(args, state) / FILE, model)
        if args.deepspeed_plugin is None:
            self._take(model, others["optimizer"])
        elif self._model is not model:
            raise ValueError(
                "DeepSpeed has copied weights that HoldMask does not hold; give it to a new "
                "Trainer(model, callbacks=[...]), without model_init, for each training"
            )

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        file = _checkpoint(args, state) / FILE
        if args.should_save and file.parent.is_dir():
            self.mask.save(file)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._hold is not None:
            self._hold.check()
        self.release()

    def _take(self, model: nn.Module, optimizer: Any = None) -> None:
        self.release()
        self._hold, self._model = hold(model, self.mask, optimizer), model

    def _check_resumed(self, file: Path, model: nn.Module) -> None:
        """Raise ValueError unless a checkpoint's mask and weights fit the mask."""
        way_out = "resume with its mask, or load its weights and train without resuming"
        if file.is_file() and Mask.load(file) != self.mask:
            raise ValueError(f"{file.parent} is of another mask; {way_out}")
        if self._hold is not None:
            try:
                self._hold.check()
            except ValueError as error:
                what = str(error).partition(":")[0]
                raise ValueError(f"the checkpoint is of another mask: {what}; {way_out}") from None
            return
        parameters = dict(bare(model).named_parameters(remove_duplicate=False))
        self.mask.check_fits(parameters)
        for name, kept in self.mask.items():
            if num := int(torch.count_nonzero(parameters[name][~kept.to(parameters[name].device)])):
                what = f"{num} pruned weights of {name} are not zero"
                raise ValueError(f"the checkpoint is of another mask: {what}; {way_out}")


def _checkpoint(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
