"""Methods: which phases and candidates each one asks for."""

from itertools import chain

import pytest

from sms_dist.config import Config, MethodConfig
from sms_dist.methods import METHODS, recipe
from sms_dist.schedules.sparsity import fraction_per_phase, geometric


def config(method="sms", seed=0, **candidates):
    return Config(
        method={"name": method},
        seed=seed,
        pruning={"goal_sparsity": 0.98, "phases": 3},
        retrain={"epochs": 7},
        candidates={"count": 4} | candidates,
        soup={"rule": "greedy"},
    )


def phases(config):
    return recipe(config).phases


def seeds_of(phase):
    return [c.seed for c in phase.candidates]


@pytest.mark.parametrize("name", ["sms", "imp", "imp_m_times"])
def test_phases_count_from_1_and_reach_the_goal_by_equal_fractions(name):
    found = phases(config(name))
    assert [p.index for p in found] == [1, 2, 3]
    assert [p.sparsity for p in found] == geometric(0.98, 3)
    assert {p.fraction for p in found} == {fraction_per_phase(0.98, 3)}


def test_sms_has_m_candidates_with_a_seed_each_in_every_phase():
    for phase in phases(config()):
        assert [c.index for c in phase.candidates] == [0, 1, 2, 3]
        assert len(set(seeds_of(phase))) == 4
        assert {c.retrain.epochs for c in phase.candidates} == {7}
        assert phase.rule == "greedy"


def test_imp_has_one_candidate_whatever_the_count():
    for phase in phases(config("imp")):
        assert [(c.index, c.retrain.epochs) for c in phase.candidates] == [(0, 7)]
        assert phase.rule == "uniform"


def test_imp_m_times_has_one_candidate_that_retrains_m_times_as_long():
    for phase in phases(config("imp_m_times")):
        assert [(c.index, c.retrain.epochs) for c in phase.candidates] == [(0, 28)]
        assert phase.rule == "uniform"


def test_dense_has_no_phases():
    assert phases(config("dense")) == ()


def test_imp_is_the_first_candidate_of_sms():
    sms, imp = phases(config(seed=3)), phases(config("imp", seed=3))
    assert [p.candidates for p in imp] == [p.candidates[:1] for p in sms]


def test_no_two_candidates_of_neighbouring_runs_share_a_seed():
    runs = [seeds_of(phases(config(seed=seed, count=20))[0]) for seed in range(5)]
    assert len(set(chain(*runs))) == 100


def test_without_varied_seeds_all_candidates_have_one():
    assert len(set(seeds_of(phases(config(vary_seed=False))[0]))) == 1


def test_varied_keys_go_to_the_candidates_in_order_and_the_rest_stays():
    vary = {"weight_decay": [0.0, 1e-4, 5e-4, 1e-3], "epochs": [5, 6, 7, 8]}
    for phase in phases(config(vary=vary)):
        found = [c.retrain for c in phase.candidates]
        assert [r.weight_decay for r in found] == vary["weight_decay"]
        assert [r.epochs for r in found] == vary["epochs"]
        assert {r.schedule for r in found} == {"llr"}


def test_every_retrain_key_can_vary():
    vary = {
        "epochs": [1, 2, 3, 4],
        "schedule": ["ft", "lrw", "llr", "allr"],
        "learning_rate": [1, 0.1, 0.2, 0.3],
        "weight_decay": [0, 0.1, 0.2, 0.3],
        "warmup": [0, 0.1, 0.2, 0.3],
        "swa_from": [None, 0.0, 0.5, 0.9],
        "swa_learning_rate": [None, 0.1, 0.2, 0.3],
    }
    made = config(vary=vary)
    assert set(vary) == set(made.retrain.model_dump())
    found = [c.retrain.model_dump() for c in phases(made)[0].candidates]
    assert found == [{key: values[i] for key, values in vary.items()} for i in range(4)]


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"weight_decay": [-1, 0, 0, 0]}, r"^candidates\.vary\.weight_decay: -1 should be "),
        ({"epochs": [1, 2, 0, 4]}, r"^candidates\.vary\.epochs: 0 should be "),
        ({"epochs": [1, 2, 3, "x"]}, r"^candidates\.vary\.epochs: x should be "),
        ({"schedule": [1, "a", "b", "c"]}, r"^candidates\.vary\.schedule: 1 should be "),
        ({"warmup": [0.1, 0.2, 0.3, 1.0]}, r"^candidates\.vary\.warmup: 1\.0 should be "),
    ],
)
def test_a_bad_varied_value_is_named_in_one_line(vary, message):
    with pytest.raises(ValueError, match=message) as error:
        phases(config(vary=vary))
    assert "\n" not in str(error.value)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match=r"method\.name=smss is not known, did you mean sms\?"):
        phases(config("smss"))


def test_overrides_change_several_keys_of_one_candidate():
    found = phases(config(overrides=[{}, {"epochs": 9}, {}, {"epochs": 2, "warmup": 0.0}]))[1]
    assert [c.retrain.epochs for c in found.candidates] == [7, 9, 7, 2]
    assert [c.retrain.warmup for c in found.candidates] == [0.1, 0.1, 0.1, 0.0]


def test_each_phase_may_have_its_own_number_of_candidates():
    made = config(count_per_phase=[5, 1, 2])
    assert [len(phase.candidates) for phase in phases(made)] == [5, 1, 2]
    long = config("imp_m_times", count_per_phase=[5, 1, 2])
    times = [p.candidates[0].retrain.epochs for p in phases(long)]
    assert times == [35, 7, 14]


def test_imp_with_m_phases_prunes_less_in_each_and_reaches_the_same_goal():
    found = phases(config("imp_m_phases"))
    assert [p.sparsity for p in found] == geometric(0.98, 12)
    assert {(len(p.candidates), p.candidates[0].retrain.epochs) for p in found} == {(1, 7)}


def test_the_runs_of_imp_reprune_go_on_from_their_own_weights():
    sms, found = phases(config()), phases(config("imp_reprune"))
    assert [p.begin for p in found] == ["soup", "own", "own"]
    assert [p.rule for p in found] == ["uniform"] * 3  # whatever soup.rule says
    assert [p.candidates for p in found] == [p.candidates for p in sms]


def test_imp_swa_averages_from_the_first_epoch_unless_told_otherwise():
    assert {p.candidates[0].retrain.swa_from for p in phases(config("imp_swa"))} == {0.0}


def test_swamp_rewinds_to_where_the_last_epochs_of_pretraining_begin():
    found = recipe(config("swamp"))
    assert (found.kept_epoch, found.dense_epochs) == (23, 30)
    assert {(p.begin, p.first_epoch) for p in found.phases} == {("rewind", 23)}
    for phase in found.phases:
        assert {c.retrain.epochs for c in phase.candidates} == {7}
        assert {c.retrain.swa_from for c in phase.candidates} == {0.75}
        assert {c.retrain.swa_learning_rate for c in phase.candidates} == {0.05}


@pytest.mark.parametrize(
    ("method", "keys", "counts"),
    [
        ("swamp", {}, [4, 4, 4]),
        ("swamp_plus", {}, [1, 4, 4]),
        ("swamp_plus", {"single_phases": 2}, [1, 1, 4]),
    ],
)
def test_swamp_plus_has_one_particle_in_early_phases(method, keys, counts):
    made = config().model_copy(update={"method": MethodConfig(name=method, **keys)})
    assert [len(p.candidates) for p in phases(made)] == counts
    rules = ["greedy" if count > 1 else "uniform" for count in counts]
    assert [p.rule for p in phases(made)] == rules


@pytest.mark.parametrize("name", METHODS)
def test_phases_only_tighten_and_end_at_the_goal(name):
    is_controlled = name not in ("dst", "str")
    made = Config(method={"name": name}, pruning={"goal_sparsity": 0.95 if is_controlled else None})
    found = [p.sparsity for p in phases(made)]
    if not is_controlled:
        assert found == [None]
    elif found:
        assert found == sorted(found)
        assert found[-1] == 0.95


def sparse_start(start, **changes):
    method = {"name": changes.pop("method", "sms")} | changes.pop("keys", {})
    return recipe(
        Config.model_validate(
            {
                "method": method,
                "pretrain": {"from": "w"},
                "pruning": {"goal_sparsity": 0.95, "phases": 2} | changes,
                "candidates": {"count": 2},
            }
        ),
        start,
    ).phases


@pytest.mark.parametrize("method", ["sms", "imp", "imp_m_times", "imp_reprune", "imp_swa", "swamp"])
def test_phases_begin_at_the_sparsity_of_the_start(method):
    found = sparse_start(0.9, method=method)
    halfway = 1 - 0.1 * 0.5**0.5  # of the tenth that is left a half stays, in two equal parts
    assert [phase.sparsity for phase in found] == pytest.approx([halfway, 0.95], rel=1e-12)
    assert [phase.fraction for phase in found] == pytest.approx([1 - 0.5**0.5] * 2, rel=1e-12)


def test_a_start_at_the_goal_is_retrained_and_one_phase_goes_there_at_once():
    assert [p.sparsity for p in sparse_start(0.95)] == [0.95, 0.95]
    assert [p.sparsity for p in sparse_start(0.9, phases=1)] == [0.95]
    assert len(sparse_start(0.9, method="imp_m_phases")) == 4
    assert sparse_start(0.97, method="dense") == ()


def test_a_goal_below_the_start_is_refused():
    with pytest.raises(ValueError, match=r"^pruning.goal_sparsity=0.5 is below the 90 % at which"):
        sparse_start(0.9, goal_sparsity=0.5)


def test_phases_of_a_method_of_ones_own_stay_as_they_are(monkeypatch, tmp_path):
    code = "from sms_dist.methods.phases import Phase, single\n\ndef two(config, begin):\n"
    code += "    return tuple(Phase(k, s, 0.5, single(config), 'uniform') for k, s in "
    code += "enumerate((begin, 0.95), 1))\n"
    (tmp_path / "their_phases.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    found = sparse_start(0.9, method="their_phases:two", keys={"begin": 0.91})
    assert [phase.sparsity for phase in found] == [0.91, 0.95]
    with pytest.raises(ValueError, match=r"phase 1 of their_phases:two: 0.8 is below the 90 % at"):
        sparse_start(0.9, method="their_phases:two", keys={"begin": 0.8})


def test_a_rule_that_moves_its_mask_is_refused_from_a_sparse_start():
    keys = {"from_scratch": False}
    with pytest.raises(ValueError, match=r"method.name=lc moves its mask while it trains, and the"):
        sparse_start(0.9, method="lc", keys=keys)
    assert [p.sparsity for p in sparse_start(0.0, method="lc", keys=keys)] == [0.95]
