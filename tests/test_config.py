"""The configuration: strict, frozen, one fingerprint, and mistakes in one line."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sms_dist import data
from sms_dist.base.plain import parse_yaml
from sms_dist.config import Config
from sms_dist.config.compare import differences, fingerprint, flatten
from sms_dist.config.file import dump, load
from sms_dist.experiment.checks import check
from sms_dist.experiment.sizes import sizes
from sms_dist.methods.plan import make_plan

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("**/*.yaml"))
DEFAULTS = flatten(Config().model_dump(mode="json", by_alias=True))
# For every key that decides the result, another valid value.
OTHERS = {
    "seed": 1,
    "model.freeze": ["conv1.*"],
    "engine.conditional": True,
    "engine.gradient_checkpointing": True,
    "retrain.ema": 0.9,
    "data.name": "digits",
    "data.path": "shards",
    "data.batch_size": 32,
    "data.train_samples": 100,
    "data.validation": 0.2,
    "data.augment": False,
    "data.loader": "streaming",
    "data.size": [16, 16],
    "data.target": "Smiling",
    "data.subgroup": "Young",
    "data.subgroups": {"all": ["a"]},
    "data.max_length": 64,
    "data.max_length_policy": "cut",
    "data.vocabulary": "spm.model",
    "data.languages": ["de", "en"],
    "data.num_beams": 4,
    "data.shuffle_shards": 10,
    "data.max_bad_samples": 3,
    "model.name": "wrn20",
    "model.options": {"width": 8},
    "model.weights": "weights.safetensors",
    "model.weights_except": ["fc.weight"],
    "pretrain.from": "runs/a",
    "pretrain.history": "config",
    "pretrain.ranks": 2,
    "pretrain.epochs": 3,
    "pretrain.optimizer": "adamw",
    "pretrain.learning_rate": 0.2,
    "pretrain.momentum": 0.5,
    "pretrain.weight_decay": 0.0,
    "pretrain.schedule": "steps",
    "pretrain.warmup_epochs": 1,
    "pretrain.milestones": [2, 3],
    "pretrain.decay": 0.5,
    "pretrain.final_learning_rate": 0.01,
    "pretrain.loss": "theirs:loss",
    "pretrain.label_smoothing": 0.1,
    "pretrain.clip_norm": 1.0,
    "pretrain.keep_epoch": 2,
    "pretrain.mask": "zeros",
    "method.name": "imp",
    "pruning.goal_sparsity": 0.8,
    "pruning.phases": 2,
    "pruning.allocation": "uniform",
    "pruning.score": "theirs:score",
    "pruning.pattern": "filters",
    "pruning.keep_dense": ["conv1.weight"],
    "pruning.embeddings": True,
    "retrain.epochs": 2,
    "retrain.schedule": "clr",
    "retrain.learning_rate": 0.3,
    "retrain.weight_decay": 0.0,
    "retrain.warmup": 0.0,
    "retrain.swa_from": 0.5,
    "retrain.swa_learning_rate": 0.1,
    "candidates.count": 2,
    "candidates.vary_seed": False,
    "candidates.count_per_phase": [3, 2, 2],
    "candidates.vary": {"epochs": [1, 2, 3]},
    "candidates.overrides": [{}, {}, {"epochs": 2}],
    "soup.rule": "greedy",
    "soup.score": "loss",
    "soup.steps": 3,
    "soup.learning_rate": 0.2,
    "soup.ensemble": False,
    "soup.pairs": True,
    "soup.loss_barrier": True,
    "engine.name": "deepspeed",
    "engine.packing": "vmap",
    "engine.pack_size": 4,
    "engine.ranks_per_candidate": 2,
    "engine.device": "cpu",
    "engine.threads": 2,
    "engine.precision": "bf16",
    "engine.compile": "reduce-overhead",
    "engine.channels_last": True,
    "engine.gradients": "surviving",
    "engine.accumulation": 2,
    "engine.zero_stage": 1,
    "engine.deterministic": True,
    "engine.deepspeed": {"zero_optimization": {"overlap_comm": True}},
}
WITHOUT_EFFECT = {
    "name": "another",
    "data.workers": 2,
    "data.prefetch": 2,
    "data.cache": "elsewhere",
    "data.remote": True,
    "data.corruptions": "generated",
    "data.corruption_samples": 100,
    "data.corrupt_candidates": True,
    "candidates.on_divergence": "stop",
    "candidates.retries": 5,
    "candidates.far": None,
    "records.root": "elsewhere",
    "records.tensorboard": False,
    "records.every_seconds": None,
    "records.every_steps": 10,
    "engine.silence_seconds": 10.0,
    "engine.hang_seconds": None,
}


def written(folder, text):
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def changed(key, value):
    return load(None, [f"{key}={yaml.safe_dump(value, default_flow_style=True)}"])


def test_the_test_knows_every_key():
    assert OTHERS.keys() | WITHOUT_EFFECT.keys() == DEFAULTS.keys()


@pytest.mark.parametrize("key", OTHERS)
def test_the_fingerprint_changes_with_every_key_that_decides_the_result(key):
    other = changed(key, OTHERS[key])
    assert fingerprint(other) != fingerprint(Config())
    assert len(differences(Config(), other)) >= 1
    assert all(line.startswith(key) for line in differences(Config(), other))


@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_the_fingerprint_ignores_the_name_and_the_records(key):
    other = changed(key, WITHOUT_EFFECT[key])
    assert other != Config()
    assert fingerprint(other) == fingerprint(Config())
    assert differences(Config(), other) == []


def test_the_fingerprint_changes_with_the_keys_of_a_method():
    given = [load(None, ["method.name=gmp_sms", f"method.copies_from={n}"]) for n in (3, 4)]
    assert fingerprint(given[0]) != fingerprint(given[1])
    assert differences(*given) == ["method.copies_from: 3 -> 4"]


def test_differences_name_the_key_and_both_values():
    old, new = Config(), load(None, ["seed=3", "retrain.epochs=2"])
    assert differences(old, new) == ["retrain.epochs: 10 -> 2", "seed: 0 -> 3"]


def test_a_configuration_cannot_be_changed():
    config = Config()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.data.batch_size = 1


@pytest.mark.parametrize("key", OTHERS | WITHOUT_EFFECT)
def test_what_is_dumped_loads_as_the_same(tmp_path, key):
    config = changed(key, (OTHERS | WITHOUT_EFFECT)[key])
    assert load(written(tmp_path, dump(config))) == config


@settings(deadline=None, max_examples=50)
@given(
    st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.+-]{0,6}\Z")
    | st.sampled_from(["1e3", "2.E-4", "no"]),
    st.floats(1e-12, 1e12),
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf")), max_size=10),
)
def test_awkward_values_survive_the_file(name, rate, text):
    config = Config(name=name, pretrain={"learning_rate": rate}, data={"path": text})
    assert Config.model_validate(parse_yaml(dump(config), "the file")) == config


def test_without_a_file_the_defaults_are_loaded():
    assert load() == Config()


def test_an_empty_file_is_the_defaults(tmp_path):
    assert load(written(tmp_path, "# nothing\n")) == Config()


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("1.e-4", 1e-4), (".5e+0", 0.5), ("1", 1.0), ("0.1", 0.1)],
)
def test_numbers_are_numbers_in_files_and_settings(tmp_path, text, value):
    path = written(tmp_path, f"pretrain:\n  learning_rate: {text}\n")
    assert load(path).pretrain.learning_rate == value
    assert load(None, [f"retrain.learning_rate={text}"]).retrain.learning_rate == value


def test_settings_stand_above_the_file_and_the_last_one_counts(tmp_path):
    path = written(tmp_path, "seed: 5\nretrain: {epochs: 4, schedule: clr}\n")
    config = load(path, ["retrain.epochs=2", "seed=6", "seed=7", "model.options.width=8"])
    assert (config.seed, config.retrain.epochs, config.retrain.schedule) == (7, 2, "clr")
    assert config.model.options == {"width": 8}


def test_settings_reach_lists_and_nested_mappings():
    settings = ["candidates.vary.epochs=[1, 2, 3]", "engine.deepspeed.a.b=true"]
    config = load(None, settings)
    assert config.candidates.vary == {"epochs": [1, 2, 3]}
    assert config.engine.deepspeed == {"a": {"b": True}}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "retrain.epoch=3",
            r"^retrain\.epoch is not a key, did you mean epochs\?; valid values: epochs,",
        ),
        ("nmae=x", r"^nmae is not a key, did you mean name\?; valid values: name, seed,"),
        (
            "pretrain.form=x",
            r"^pretrain\.form is not a key, did you mean from\?; valid values: from,",
        ),
        ("candidates.vary.epoch=[1,2,3]", r"vary=epoch is not known, did you mean epochs\?"),
        ("candidates.vary.epochs=[1,2]", r"epochs has 2 values for candidates\.count=3; give one"),
        ("data.batch_size=0", r"^data\.batch_size=0 should be greater than or equal to 1$"),
        ("data.batch_size=8.5", r"^data\.batch_size=8\.5 should be a valid integer$"),
        ("retrain.epochs=1e1", r"^retrain\.epochs=10\.0 should be a valid integer$"),
        ("seed=true", r"^seed=True should be a valid integer$"),
        ("seed='1'", r"^seed='1' should be a valid integer$"),
        ("name=2024", r"^name=2024 should be a valid string; write it in quotes$"),
        ("name=a/b", r"^name='a/b' "),
        ("pruning.goal_sparsity=1.0", r"^pruning\.goal_sparsity=1\.0 should be less than 1$"),
        (
            "pretrain.learning_rate=.inf",
            r"\.inf is not YAML: \.inf is no finite number",
        ),
        ("engine.precision=fp8", r"^engine\.precision='fp8' should be 'fp32', 'bf16' or 'fp16'$"),
        ("candidates.on_divergence=ask", r"on_divergence='ask' should be 'drop', 'retry' or"),
        ("candidates.retries=0", r"^candidates\.retries=0 should be greater than or equal to 1$"),
        ("candidates.far=1.0", r"^candidates\.far=1\.0 should be greater than 1$"),
        ("engine.accumulation=3", r"^data\.batch_size=16 must be a multiple of 3.*; try 18$"),
        ("data=5", r"^data=5 should be a mapping, for example \{name: 5\}$"),
        ("pruning=", r"^pruning=None should be a mapping, for example \{goal_sparsity: value\}$"),
        (
            "model.options=[1]",
            r"^model\.options=\[1\] should be a mapping, for example \{key: valu",
        ),
        (
            "pruning.keep_dense=conv1.weight",
            r"^pruning\.keep_dense='conv1\.weight' should be a list, for .* \[conv1\.weight\]$",
        ),
        ("data.size=32", r"^data\.size=32 should be a list of 2, for example \[32, 32\]$"),
        ("data.size=[32]", r"^data\.size=\[32\] should be a list of 2, for example \[32, 32\]$"),
        ("data.size=[3,4,5]", r"^data\.size=\[3, 4, 5\] should be a list of 2, .* \[3, 4\]$"),
        ("data.subgroups.a=cat", r"^data\.subgroups\.a='cat' should be a list, .* \[cat\]$"),
        ("candidates.vary.epochs=3", r"^candidates\.vary\.epochs=3 should be a list, .* \[3\]$"),
        ("candidates.overrides={epochs: 3}", r"a list, for example \[\{epochs: 3\}\]$"),
        ("candidates.overrides=[3]", r"^candidates\.overrides\.0=3 should be a mapping, for exam"),
        ("candidates.vary.epochs=[1,2,[3]]", r"^candidates\.vary\.epochs\.2=\[3\] .*, not a list$"),
        ("pretrain.from=[a]", r"^pretrain\.from=\['a'\] should be a valid string, not a list$"),
        ("seed", r"^--set seed: write key\.path=value"),
        ("=1", r"^--set =1: write key\.path=value"),
        (".seed=1", r"^--set \.seed=1: write key\.path=value"),
        ("seed=[", r"^--set seed=\[ is not YAML"),
    ],
)
def test_a_mistake_is_said_in_one_line_with_field_and_value(setting, message):
    with pytest.raises(ValueError, match=message) as error:
        load(None, [setting])
    assert "\n" not in str(error.value)


def test_a_setting_below_a_value_is_refused(tmp_path):
    path = written(tmp_path, "seed: 5\n")
    with pytest.raises(ValueError, match=r"^--set seed\.x=1: seed is a value, not a section$"):
        load(path, ["seed.x=1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n", "is not a mapping of keys to values"),
        (b"seed: [\n", "is not YAML: "),
        (b"seed: 1\n---\nseed: 2\n", "is not YAML: but found another document"),
        (b"seed: !!python/name:os.system\n", "is not YAML: "),
        (b"name: \xff\xfe\n", "is not YAML: "),
        (b"seed: 1\nretrain: {epochs: 1}\nseed: 2\n", "the key seed is there twice, line 3"),
        (b"retrain: {epochs: 1, epochs: 2}\n", "the key epochs is there twice, line 1"),
        (b"#" * ((1 << 18) + 1), "larger than 262144 bytes"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path, content, message):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(error.value).startswith(f"--config {path} ")
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^--config .*nowhere\.yaml: there is no such file$"):
        load(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("path", [None, *CONFIGS], ids=lambda path: path.name if path else "none")
def test_every_configuration_loads_and_plans(path):
    config = load(path)
    info = data.described(config.data)
    for num_groups in (1, 4):
        plan = make_plan(check(config), num_groups, sizes(config, info))
        if config.method.name != "dense":
            assert plan.phases[-1].phase.sparsity == config.pruning.goal_sparsity
        assert all(steps > 0 for phase in plan.phases for steps in phase.steps)
        assert all(phase.surviving > 0 for phase in plan.phases)


def test_the_configurations_have_names_of_their_own():
    names = [load(path).name for path in CONFIGS]
    assert len(set(names)) == len(names)
