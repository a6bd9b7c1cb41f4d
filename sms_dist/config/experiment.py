"""The configuration of an experiment: the meaning of each key, its default and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from sms_dist.base.lookup import lookup
from sms_dist.config.section import (
    Above0,
    AtLeast0,
    Count,
    Counts,
    Epochs,
    Few,
    FilePath,
    Fraction,
    Integers,
    Names,
    Natural,
    Overrides,
    Pair,
    Section,
    Size,
)
from sms_dist.schedules.learning_rate import Curve


class DataConfig(Section):
    """The section `data`: the data set, how it is read, extra measurements."""

    name: FilePath = "digits_distorted"
    """see [data sets](data.md); `card`: shards of your own, described by their card.yaml; the path
    of a card, a .yaml file; `package.module:function`: your own data set"""
    path: FilePath | None = None
    """folder of shards, or of the data set as it is downloaded; the digits are embedded and need
    none"""
    loader: Literal["resident", "streaming"] = "resident"
    """resident: all samples lie on the device; streaming: samples are read while training"""
    batch_size: Count = 16
    """samples per optimizer step of a candidate, all its ranks together"""
    train_samples: Count | None = None
    """use only so many of the first training samples (null: all)"""
    validation: Fraction = 0.1
    """fraction of the training samples kept for validation"""
    augment: bool | str = True
    """the data set's own augmentation while training (the digits have none), none at all, or
    `package.module:function`"""
    size: Size | None = None
    """height and width to which images are scaled when they are read (null: the data set's)"""
    target: str | None = None
    """celeba: the attribute to predict"""
    subgroup: str | None = None
    """celeba: the attribute whose combinations with the target are measured apart"""
    subgroups: dict[str, list[str]] = {}
    """measure the recall of groups of classes, e.g. {animals: [cat, dog], things: [car]}"""
    corruptions: FilePath | None = None
    """also measure dense models and soups on corrupted test images: a CIFAR-C or ImageNet-C folder,
    or `generated`"""
    corruption_samples: Count | None = None
    """number of these images, in batches spread over the test set, approximately (null: all)"""
    corrupt_candidates: bool = False
    """measure the candidates on corrupted images as well"""
    max_length: Count = 128
    """translation: largest number of tokens of a sentence, its end included"""
    max_length_policy: Literal["stop", "cut", "skip"] = "stop"
    """translation: longer training sentences stop the run, are cut, or are skipped"""
    vocabulary: FilePath = "bytes"
    """translation: bytes, or a SentencePiece model file"""
    languages: Pair = ("en", "de")
    """translation: source and target language, as in the names of the files"""
    num_beams: Count = 1
    """translation: beams of the search for BLEU (1: greedy)"""
    workers: Natural = 0
    """streaming: processes of each rank that read and decode (0: the rank itself does)"""
    prefetch: Count = 4
    """streaming: batches that each worker prepares ahead"""
    shuffle_shards: Count | None = None
    """streaming: number of shards whose samples are mixed, for slow disks (null: all samples are
    mixed, in the order of the resident loader)"""
    max_bad_samples: Natural = 0
    """streaming: damaged samples that each rank skips before the run stops"""
    cache: FilePath | None = None
    """folder for unpacked or downloaded shards and their indices (null: beside the shards)"""
    remote: bool = False
    """allow shards at URLs, and `pipe:` commands, which run in a shell"""


class EngineConfig(Section):
    """The section `engine`: how a candidate is trained, and limits of the watchdog."""

    name: str = "ddp"
    """ddp, deepspeed or packed (the candidates of a group train together on its one rank)"""
    ranks_per_candidate: Count = 1
    """ranks that train one candidate; must divide the number of ranks"""
    packing: Literal["auto", "vmap", "loop"] = "auto"
    """packed: vmap (one network with the weights of all), loop (one after another, as with ddp) or
    auto: the faster one, measured once and recorded in the run folder"""
    pack_size: Count | None = None
    """packed: candidates that train together (null: all of a group, as dealt at the first start)"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where there is one"""
    threads: Count = 1
    """CPU threads of a rank; fixed, because results depend on it bit for bit"""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """precision of forward and backward; master weights stay fp32 (fp16: cuda only)"""
    deterministic: bool = False
    """cuda: only algorithms that are bit-identical in every run, slower (a CPU always is)"""
    compile: Literal["eager", "default", "reduce-overhead", "max-autotune", "auto"] = "eager"
    """ddp: eager (no compilation), a mode of torch.compile for forward and backward, or auto
    (default on cuda, eager on a CPU); results differ from eager ones in the last bits"""
    channels_last: bool = False
    """memory layout of images and convolutions, faster on many devices"""
    gradients: Literal["dense", "surviving"] = "dense"
    """ddp: gradients that ranks of a group exchange under a fixed mask: all, or only those of
    surviving weights, for slow links; bit-identical with two ranks, not with more"""
    conditional: bool = False
    """ddp: set it where a model uses some of its parameters in some steps only, as layers that are
    skipped at random; those that no step uses are found without it"""
    accumulation: Count = 1
    """micro-batches per optimizer step; the batch size stays the same"""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """deepspeed: ZeRO stage"""
    deepspeed: dict[str, Any] = {}
    """deepspeed: further keys of its configuration, which override the derived ones"""
    silence_seconds: Above0 = 60.0
    """a rank that has sent no sign of life for this long counts as lost, and the others stop"""
    hang_seconds: Above0 | None = 1800.0
    """a rank whose training or evaluation makes no progress for this long counts as hung (null:
    never)"""


class ModelConfig(Section):
    """The section `model`: the network and its initial weights."""

    name: str = "digits_cnn"
    """see [models](models.md); `package.module:function`: your own; `timm:NAME`: one of timm's"""
    options: dict[str, Any] = {}
    """keyword arguments of the model's build function"""
    weights: FilePath | None = None
    """initial weights for pretraining: a safetensors or state-dict file"""
    weights_except: Names = ()
    """tensors or whole modules that keep their random initial values instead, such as another
    classifier"""
    freeze: Names = ()
    """parameters that are never trained: names of tensors or whole modules, or patterns such as
    layer?.*; they are still pruned, unless pruning.keep_dense names them"""


class PretrainConfig(Section):
    """The section `pretrain`: dense training, or where finished dense weights are."""

    from_: Annotated[FilePath | None, Field(alias="from")] = None
    """finished weights to prune: a run folder (its dense weights), the folder of a phase (its soup)
    or of Hugging Face, a safetensors or state-dict file"""
    mask: FilePath | None = None
    """what of `from` is pruned already and stays so: a mask file, `zeros` (what is exactly zero),
    `none` (all weights train again); null: mask.safetensors beside the weights, or none where there
    are no zeros to speak of"""
    history: Literal["recorded", "config"] = "recorded"
    """config: where `from` has no history.json, this section says how its weights were
    pretrained"""
    keep_epoch: Natural | None = None
    """also save the weights after this epoch, to rewind to (null: where the method needs it)"""
    ranks: Count | None = None
    """ranks that pretrain as one data-parallel group (null: as many as the batch size allows). Set
    it to make results independent of the number of ranks."""
    epochs: Epochs = 30
    """epochs of dense training"""
    optimizer: str = "sgd"
    """sgd (Nesterov when weight_decay > 0), adamw or `package.module:function`, also for
    retraining"""
    learning_rate: Above0 = 0.1
    """largest learning rate"""
    momentum: Fraction = 0.9
    """momentum of SGD"""
    weight_decay: AtLeast0 = 5e-4
    """L2 for sgd, decoupled for adamw"""
    schedule: str = "linear"
    """constant, linear, steps or cosine, after the warm-up, or `package.module:function`"""
    warmup_epochs: Epochs = 0
    """epochs of linear warm-up from 0"""
    milestones: Integers = ()
    """steps: epochs, counted from 1, at whose start the rate is multiplied by decay"""
    decay: Above0 = 0.1
    """steps: factor of the rate at each milestone"""
    final_learning_rate: AtLeast0 = 0.0
    """learning rate at which linear and cosine end"""
    loss: str | None = None
    """loss of pretraining and retraining, `package.module:function` (null: that of the task)"""
    label_smoothing: Fraction = 0.0
    """label smoothing of the cross-entropy, also in retraining"""
    clip_norm: Above0 | None = None
    """limit of the gradient's norm, also in retraining (null: none)"""

    @property
    def curve(self) -> Curve:
        """The learning rate over pretraining."""
        return Curve(
            self.schedule,
            self.epochs,
            self.learning_rate,
            self.final_learning_rate,
            self.warmup_epochs,
            self.milestones,
            self.decay,
        )


class MethodConfig(Section):
    """The section `method`: its name, and keys of its own."""

    # Further keys are the method's own: sms_dist/methods knows them and refuses others.
    model_config = ConfigDict(extra="allow")

    name: str = "sms"
    """see [methods](#methods), or `package.module:function`; further keys belong to the method"""

    @property
    def keys(self) -> dict[str, Any]:
        """The keys beside the name."""
        return dict(self.model_extra or {})


class PruningConfig(Section):
    """The section `pruning`: how much is pruned, in which phases, and which weights."""

    goal_sparsity: Annotated[float, Field(gt=0, lt=1)] | None = 0.9
    """fraction of the prunable weights removed at the end (null: for methods that cannot control
    it)"""
    phases: Few = 3
    """prune-retrain phases; each removes the same fraction of what remains"""
    allocation: str = "global"
    """how many weights each layer keeps: global, uniform, uniform_plus, erk, lamp or
    `package.module:function`; patterns other than unstructured take the same fraction of every
    layer"""
    score: str = "magnitude"
    """numbers by which weights are ranked: magnitude, or `package.module:function`"""
    pattern: str = "unstructured"
    """units that are pruned: unstructured (single weights), filters (of convolutions; linear layers
    stay whole) or N:M such as 2:4 (N of M consecutive inputs stay; goal_sparsity is 1 - N/M)"""
    keep_dense: Names = ()
    """names of weights that are never pruned and not counted, e.g. [conv1.weight]"""
    embeddings: bool = False
    """prune and count embeddings as well"""


class RetrainConfig(Section):
    """The section `retrain`: the training of a candidate in a phase."""

    epochs: Annotated[Epochs, Field(ge=1)] = 10
    """epochs per phase and candidate"""
    schedule: str = "llr"
    """ft, lrw, slr, clr, llr, allr or `package.module:function`"""
    learning_rate: Above0 | None = None
    """largest learning rate (null: that of pretraining)"""
    weight_decay: AtLeast0 | None = None
    """weight decay (null: that of pretraining)"""
    warmup: Fraction = 0.1
    """fraction of the phase's steps spent warming up (ft and lrw have none)"""
    swa_from: Fraction | None = None
    """average the weights after each epoch from this fraction of the epochs on; the average becomes
    the candidate (null: no averaging)"""
    swa_learning_rate: Above0 | None = None
    """constant learning rate while averaging (null: the schedule goes on)"""


class CandidatesConfig(Section):
    """The section `candidates`: how many, how they differ, what happens if they diverge."""

    count: Few = 3
    """m, the number of candidates of each phase; imp_m_times retrains m times as long instead"""
    count_per_phase: Counts = ()
    """m of each phase, where it differs, e.g. [10, 5, 3] (empty: `count` in every phase)"""
    vary_seed: bool = True
    """give each candidate its own seed"""
    vary: dict[str, list[int | float | str | None]] = {}
    """values of retrain keys, one per candidate, e.g. {weight_decay: [1e-4, 5e-4, 1e-3]}"""
    overrides: Overrides = ()
    """several retrain keys at once: a mapping per candidate, e.g. [{}, {epochs: 20, warmup: 0}]"""
    on_divergence: Literal["drop", "retry", "stop"] = "drop"
    """a candidate that diverges (its loss or weights are not finite, or it is an outlier) is left
    out of the soup (drop), retrained with another seed (retry), or ends the run (stop)"""
    retries: Count = 2
    """retry: attempts with other seeds for one candidate of a phase, before it is dropped"""
    far: Annotated[float, Field(gt=1)] | None = 2.0
    """a candidate is an outlier if its final training loss exceeds this multiple of the median over
    equally retrained candidates (null: only values that are not finite count as diverged); see
    [divergence](methods.md#divergence)"""


class SoupConfig(Section):
    """The section `soup`: how candidates are merged, and extra measurements."""

    rule: str = "uniform"
    """uniform, greedy, best (single), learned (coefficients by validation loss), distilled
    (coefficients by distillation from the dense model) or `package.module:function`"""
    score: str | None = None
    """metric on validation samples by which rules compare soups, e.g. loss, or
    `package.module:function` (null: that of the task: accuracy, miou or bleu)"""
    steps: Count = 30
    """learned and distilled: gradient steps on the coefficients"""
    learning_rate: Above0 = 0.1
    """learned and distilled: learning rate of the coefficients"""
    ensemble: bool = True
    """also measure the ensemble of the candidates, with averaged probabilities (classification)"""
    pairs: bool = False
    """also measure the soup of every pair of candidates (slow)"""
    loss_barrier: bool = False
    """also measure the loss on the segments between candidates (slow)"""


class RecordsConfig(Section):
    """The section `records`: run folders, TensorBoard, checkpoints."""

    root: FilePath = "runs"
    """folder of run folders; a run folder is root/name (--run-dir overrides)"""
    tensorboard: bool = True
    """write TensorBoard event files"""
    every_seconds: Above0 | None = 60.0
    """seconds between two checkpoints of a training; more where saving would take more than a
    fiftieth of the time (null: none by time)"""
    every_steps: Count | None = None
    """steps between two checkpoints of a training (null: none by steps)"""


class Config(Section):
    """One experiment. Every key has a default; the defaults are the embedded first experiment."""

    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")] = "digits_sms"
    """name of the run folder"""
    seed: Natural = 0
    """seed from which all randomness follows"""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    pretrain: PretrainConfig = PretrainConfig()
    method: MethodConfig = MethodConfig()
    pruning: PruningConfig = PruningConfig()
    retrain: RetrainConfig = RetrainConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    soup: SoupConfig = SoupConfig()
    engine: EngineConfig = EngineConfig()
    records: RecordsConfig = RecordsConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        batch, engine = self.data.batch_size, self.engine
        pieces = engine.ranks_per_candidate * engine.accumulation
        if batch % pieces:
            raise ValueError(
                f"data.batch_size={batch} must be a multiple of {pieces}, which is "
                f"engine.ranks_per_candidate={engine.ranks_per_candidate} x "
                f"engine.accumulation={engine.accumulation}; "
                f"try {-(-batch // pieces) * pieces}"
            )
        self._check_candidates()
        return self

    def _check_candidates(self) -> None:
        """Raise ValueError unless every varied retrain key has a value for each candidate."""
        candidates, num_phases = self.candidates, self.pruning.phases
        counts = candidates.count_per_phase
        if counts and len(counts) != num_phases:
            raise ValueError(
                f"candidates.count_per_phase has {len(counts)} values for pruning.phases="
                f"{num_phases}; give one for each phase"
            )
        field = "candidates.count_per_phase, at most" if counts else "candidates.count"
        most = max(counts, default=candidates.count)
        varied: dict[str, Sequence[Any]] = {f"vary.{k}": v for k, v in candidates.vary.items()}
        if candidates.overrides:
            varied["overrides"] = candidates.overrides
        for name, values in varied.items():
            if len(values) != most:
                raise ValueError(
                    f"candidates.{name} has {len(values)} values for {field}={most}; give one for "
                    "each candidate"
                )
        for key in candidates.vary:
            lookup(RetrainConfig.model_fields, key, "candidates.vary")
        for i, changes in enumerate(candidates.overrides):
            for key in changes:
                lookup(RetrainConfig.model_fields, key, f"candidates.overrides[{i}]")
