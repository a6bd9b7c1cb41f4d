"""Checks of a configuration that need neither samples nor ranks."""

from __future__ import annotations

from sms_dist import data
from sms_dist.base.lookup import (
    check_arguments,
    guarded,
    is_own_name,
    lookup,
    lookup_open,
    own,
)
from sms_dist.config import Config
from sms_dist.config.experiment import EngineConfig
from sms_dist.engines import ENGINES, compile_obstacle
from sms_dist.engines.optimizers import OPTIMIZERS, optimizer_maker, optimizer_settings
from sms_dist.experiment.sizes import check_model, layers, num_parameters, prunable_shapes
from sms_dist.methods import recipe, starts_from_dense
from sms_dist.methods.phases import Phase, Recipe
from sms_dist.pruning.allocation import ALLOCATIONS, num_kept
from sms_dist.pruning.feasible import (
    DEFAULT_ALLOCATION,
    DEFAULT_SCORE,
    UNSTRUCTURED,
    check_pruning,
    needs_shapes,
)
from sms_dist.pruning.prune import check_parts
from sms_dist.schedules.learning_rate import (
    RETRAINING,
    History,
    Retraining,
    pretraining_rates,
    retraining_rates,
)
from sms_dist.soups.rules import rule
from sms_dist.stacks import obstacle
from sms_dist.tasks import COMPARABLE


def check(config: Config, start: float = 0.0) -> Recipe:
    """The recipe of the method; ValueError for the first thing that could not work.

    `start` is the sparsity of the weights that `pretrain.from` names, where it is known already.
    Asks no machine and reads no more than a card or a vocabulary: every rank comes to the same
    conclusion.
    """
    chosen = recipe(config, start)
    requested = chosen.phases
    _check_names(config, requested)
    _check_history(config, requested)
    _check_forward(config)
    _check_engine(config, requested)
    _check_rules(config, requested)
    _check_surviving(config, requested)
    _check_pattern(config, requested)
    _check_measures(config)
    return chosen


def _check_names(config: Config, requested: tuple[Phase, ...]) -> None:
    """Every name is in its table."""
    rule(config.soup.rule)
    for schedule in (config.retrain.schedule, *_schedules(requested)):
        lookup_open(RETRAINING, schedule, "retrain.schedule")
    pretraining_rates(
        config.pretrain.curve, steps_per_epoch=1
    )  # also: no warm-up longer than the rest
    lookup(ENGINES, config.engine.name, "engine.name")
    lookup_open(ALLOCATIONS, config.pruning.allocation, "pruning.allocation")
    lookup_open({DEFAULT_SCORE: None}, config.pruning.score, "pruning.score")
    optimizer_maker(config.pretrain.optimizer)
    _check_own_functions(config, requested)
    if config.pretrain.loss is not None and config.pretrain.label_smoothing:
        raise ValueError(
            f"pretrain.label_smoothing={config.pretrain.label_smoothing} is for the task's own "
            f"loss, not for pretrain.loss={config.pretrain.loss}; set it to 0.0"
        )


def _check_own_functions(config: Config, requested: tuple[Phase, ...]) -> None:
    """People's own functions are there, and take what they will be called with."""
    from torch import ones
    from torch.nn import Parameter

    task = data.described(config.data).task
    calls: dict[tuple[str, object], str] = {
        ("data.augment", config.data.augment): "image, mask" if task == "segmentation" else "image",
        ("pretrain.loss", config.pretrain.loss): "outputs, targets",
        ("pruning.score", config.pruning.score): "weights",
        ("pruning.allocation", config.pruning.allocation): "layers, num_kept",
        ("soup.score", config.soup.score): "metrics",
        **{("soup.rule", phase.rule): "scores, score_of" for phase in requested},
    }
    without_table = ("data.augment", "pretrain.loss")
    for (field, name), arguments in calls.items():
        if isinstance(name, str) and (is_own_name(name) or field in without_table):
            given = own(name, field)
            function = guarded(given, name, field)() if isinstance(given, type) else given
            check_arguments(function, arguments, name, field)
    # These are tried on what any of them has to take.
    if is_own_name(config.pretrain.optimizer):
        make = optimizer_maker(config.pretrain.optimizer)
        make([Parameter(ones(2, 2))], optimizer_settings(config.pretrain))
    if is_own_name(name := config.pruning.score):
        shapes = prunable_shapes(config, data.described(config.data))
        score = guarded(own(name, "pruning.score"), name, "pruning.score")
        score({layer: ones(shape) for layer, shape in shapes.items()})
    for schedule in filter(is_own_name, {*_schedules(requested), config.retrain.schedule}):
        retraining_rates(schedule, Retraining(History((0.1, 0.05), 1), 1), 2, warmup=0.0)


def _check_history(config: Config, requested: tuple[Phase, ...]) -> None:
    """All schedules of retraining are made from the rates of pretraining."""
    schedules = _schedules(requested)
    if config.model.weights is not None and config.pretrain.from_ is not None:
        raise ValueError(
            f"model.weights={config.model.weights} is where pretraining begins, and pretrain.from="
            f"{config.pretrain.from_} is where it has ended; leave one of them out"
        )
    if config.pretrain.mask is not None and config.pretrain.from_ is None:
        raise ValueError(
            f"pretrain.mask={config.pretrain.mask} says what of pretrain.from is pruned, and "
            "pretrain.from is not given; give it, or leave the mask out"
        )
    if schedules and config.pretrain.from_ is None and config.pretrain.epochs == 0:
        raise ValueError(
            f"retrain.schedule={schedules[0]} needs the learning rates of pretraining, "
            "and pretrain.epochs=0 has none; raise it, or start from a run folder with "
            "pretrain.from"
        )


def _check_engine(config: Config, requested: tuple[Phase, ...]) -> None:
    """DeepSpeed can train the method, and candidates can form stacks if that is asked for."""
    engine = config.engine
    if engine.name == "deepspeed" and engine.precision == "fp16" and engine.zero_stage == 0:
        raise ValueError(
            "engine.zero_stage=0 with engine.precision=fp16 hardly trains: DeepSpeed divides "
            "gradients by a scale that the loss never had; use zero_stage=1, or engine.name=ddp"
        )
    if engine.name != "ddp" and engine.gradients != "dense":
        raise ValueError(
            f"engine.gradients={engine.gradients}: engine.name={engine.name} exchanges gradients "
            "in its own way; use dense, or engine.name=ddp"
        )
    optimizer = config.pretrain.optimizer
    if engine.name != "ddp" and optimizer not in OPTIMIZERS:
        raise ValueError(
            f"pretrain.optimizer={optimizer}: engine.name={engine.name} steps in its own way; use "
            f"{' or '.join(OPTIMIZERS)}, or engine.name=ddp"
        )
    check_model(config, data.described(config.data))
    for retrain in (each.retrain for phase in requested for each in phase.candidates):
        if retrain.ema is not None and engine.name == "deepspeed":
            raise ValueError(
                f"retrain.ema={retrain.ema}: engine.name=deepspeed spreads the weights over ranks; "
                "use null, or engine.name=ddp"
            )
        if retrain.ema is not None and retrain.swa_from is not None:
            raise ValueError(
                f"retrain.ema={retrain.ema} and retrain.swa_from={retrain.swa_from} are two ways "
                "to average weights; set one of them to null"
            )
    if engine.gradient_checkpointing and engine.compile != "eager":
        raise ValueError(
            "engine.gradient_checkpointing: a compiler decides itself what it computes again; set "
            "it to false, or use engine.compile=eager"
        )
    if engine.compile != "eager":
        _check_compile(config)
    if engine.name == "packed":
        _check_stacks(engine, requested)
    if engine.name == "deepspeed" and not all(phase.has_fixed_mask for phase in requested):
        raise ValueError(
            f"engine.name={engine.name}: method.name={config.method.name} changes the "
            "training step itself, which only engine.name=ddp can do"
        )


def _check_compile(config: Config) -> None:
    engine = config.engine
    if engine.name != "ddp":
        raise ValueError(
            f"engine.compile={engine.compile}: engine.name={engine.name} takes its steps in its "
            "own way; use eager, or engine.name=ddp"
        )
    reason = compile_obstacle(data.described(config.data).task)
    if reason:
        raise ValueError(f"engine.compile={engine.compile}: {reason}; use eager")


def _check_stacks(engine: EngineConfig, requested: tuple[Phase, ...]) -> None:
    if engine.ranks_per_candidate > 1:
        raise ValueError(
            "engine.name=packed trains several candidates on one rank, and "
            f"engine.ranks_per_candidate={engine.ranks_per_candidate} wants several ranks for one; "
            "use 1, or engine.name=ddp"
        )
    for phase in requested:
        if engine.packing == "vmap" and (reason := obstacle(engine, phase)):
            raise ValueError(f"engine.packing=vmap: {reason}; use auto, or engine.name=ddp")


def _check_rules(config: Config, requested: tuple[Phase, ...]) -> None:
    """Every soup rule has what it needs: candidates, validation samples, a dense model."""
    for phase in requested:
        needs = rule(phase.rule)
        if needs.needs_several and len(phase.candidates) < 2:
            raise ValueError(
                f"soup.rule={phase.rule} chooses among candidates, and phase {phase.index} has "
                "one; set candidates.count to 2 or more, or soup.rule=uniform"
            )
        if needs.needs_teacher and not starts_from_dense(recipe(config), config):
            raise ValueError(
                f"soup.rule={phase.rule} learns from the dense model, and method.name="
                f"{config.method.name} trains none; use learned, greedy or uniform"
            )
    wanting = {f"soup.rule={p.rule}": rule(p.rule).needs_validation for p in requested}
    wanting["soup.loss_barrier=true"] = bool(requested) and config.soup.loss_barrier
    for field, is_wanting in wanting.items():
        if is_wanting and config.data.validation == 0:
            raise ValueError(
                f"{field} measures soups on validation samples, and data.validation=0.0 keeps "
                "none; set it to 0.1, for example"
            )


def _check_surviving(config: Config, requested: tuple[Phase, ...]) -> None:
    """The model takes the data's images, and no phase prunes all of its weights."""
    info = data.described(config.data)
    num_prunable, _ = num_parameters(config, info)
    for phase in requested:
        if phase.sparsity is not None and num_kept(num_prunable, phase.sparsity) < 1:
            raise ValueError(
                f"pruning.goal_sparsity={config.pruning.goal_sparsity} leaves none of the "
                f"{num_prunable} prunable weights of model.name={config.model.name} in phase "
                f"{phase.index}; lower it"
            )


def _check_pattern(config: Config, requested: tuple[Phase, ...]) -> None:
    """Check that pattern, allocation and sparsity are possible in every layer."""
    pruning = config.pruning
    chosen = (pruning.pattern, pruning.allocation, pruning.score)
    is_plain = chosen == (UNSTRUCTURED, DEFAULT_ALLOCATION, DEFAULT_SCORE)
    if not is_plain and not all(phase.has_fixed_mask for phase in requested):
        raise ValueError(
            f"method.name={config.method.name} chooses single weights out of all layers together; "
            f"pruning.pattern={pruning.pattern}, pruning.allocation={pruning.allocation} and "
            f"pruning.score={pruning.score} must be unstructured, global and magnitude"
        )
    weights = [each for each in layers(config, data.described(config.data)) if each.is_pruned]
    check_parts(weights, pruning.pattern)
    divided = [each for each in weights if each.parts is not None]
    if divided and not all(phase.has_fixed_mask for phase in requested):
        raise ValueError(
            f"method.name={config.method.name} ranks weights as they are stored, and "
            f"{divided[0].name} ({divided[0].kind}) is divided by a norm before use; set "
            f"pruning.keep_dense=[{', '.join(each.name for each in divided)}]"
        )
    if needs_shapes(pruning.pattern, pruning.allocation, pruning.keep_dense):
        info = data.described(config.data)
        check_pruning(
            prunable_shapes(config, info),
            [phase.sparsity for phase in requested if phase.sparsity is not None],
            pattern=pruning.pattern,
            allocation=pruning.allocation,
            goal_sparsity=pruning.goal_sparsity,
            keep_dense=pruning.keep_dense,
        )


def _check_forward(config: Config) -> None:
    """A training step of few samples gives outputs that the task can use, and gradients."""
    from sms_dist.training.trial import trial

    info, batch = data.described(config.data), config.data.batch_size
    if info.num_train:  # else only the files know it
        num_train, _ = data.split_sizes(info, config.data)
        batch = num_train // -(-num_train // batch)  # steps of an epoch are nearly equal
    pieces = config.engine.accumulation * max(
        config.engine.ranks_per_candidate, config.pretrain.ranks or 1
    )
    trial(config, info, 1 if batch // pieces < 2 else 2)


def _check_measures(config: Config) -> None:
    """Check that what is asked to be measured exists for this task."""
    task = data.described(config.data).task
    if config.soup.score is not None and not is_own_name(config.soup.score):
        lookup(dict.fromkeys(COMPARABLE.get(task, ())), config.soup.score, "soup.score")
    if config.data.corruptions is not None and task != "classification":
        raise ValueError(
            f"data.corruptions measures classes of images, and data.name={config.data.name} is for "
            f"{task}; leave it out"
        )


def _schedules(requested: tuple[Phase, ...]) -> list[str]:
    """Return the schedules of retraining; phases that go on with that of pretraining have none."""
    phases = [phase for phase in requested if phase.first_epoch is None]
    return [candidate.retrain.schedule for phase in phases for candidate in phase.candidates]
