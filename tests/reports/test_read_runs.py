"""Facts about what is taken from a run's journal."""

from __future__ import annotations

import pytest
from journals import collected, events, one_shot, ood, phase, run, two_phases

from sms_dist.config import Config
from sms_dist.reports.runs import distinct
from sms_dist.reports.tables import make


def test_a_run_has_its_phases_in_order_and_knows_its_end() -> None:
    found = run(two_phases(0.9)[::-1])
    assert [p.phase for p in found.phases] == [1, 2]
    assert found.final is not None
    assert found.final.soup_score == pytest.approx(0.8)
    assert found.final.num_weights == 1000
    assert found.retrain_epochs == {1: (4, 4), 2: (4, 4)}
    assert (found.metric("dense", "accuracy"), found.dense_epochs) == (0.95, 8)


def test_an_unfinished_run_has_phases_but_no_final_model() -> None:
    found = run(two_phases(0.9)[:1], is_done=False)
    assert (len(found.phases), found.final) == (1, None)


def test_a_phase_that_the_journal_missed_comes_from_the_summary() -> None:
    first, second = two_phases(0.9)
    lines = events([second], 0.95, 4, is_done=True)
    found = collected("r", Config(), lines, {"phases": [first, second]})
    assert [p.phase for p in found.phases] == [1, 2]


def test_a_phase_told_twice_counts_once() -> None:
    assert len(run([*one_shot(0.9), *one_shot(0.9)]).phases) == 1


def test_a_candidate_that_diverged_has_no_metrics_and_is_told_below_every_table() -> None:
    (found,) = one_shot(0.9, m=4)
    found["candidates"][1]["diverged"] = True  # far from the others: its score is a number
    found["candidates"][2]["attempts"] = [{"seed": 2, "divergence": {"kind": "not finite"}}]
    runs = [run([found], "candidates.on_divergence=retry"), run(one_shot(0.9), "seed=1")]
    assert list(runs[0].candidate_metrics(1, "accuracy")) == [0, 2, 3]
    sentence = "Of 6 candidates 1 diverged and is left out; 1 was retried with another seed."
    assert sentence in make("methods", runs)[0][0].caption
    assert len(make("methods", runs)[0][0].rows) == 1
    assert "diverged" not in " ".join(make("methods", runs[1:])[0][0].caption)


def test_a_number_of_the_wrong_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"^r: soup.test_accuracy='high'"):
        collected("r", Config(), events([phase(1, "high", [0.9])], 0.9, 1, True))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="candidate"):
        collected(
            "r",
            Config(),
            [{"event": "soup", "phase": 1, "sparsity": 0.5, "score": "bleu", "soup": {}}],
        )


def test_a_method_that_trains_from_scratch_has_the_dense_epochs_it_says() -> None:
    lines = [{"event": "dense", "test_accuracy": 0.1, "epochs_trained": 0}]
    assert collected("r", Config(), lines).dense_epochs == 0


def test_weights_from_a_file_count_the_configured_epochs() -> None:
    assert run([], "pretrain.from=x").dense_epochs == 8


def test_the_score_of_a_run_is_that_of_its_phases() -> None:
    assert run(one_shot(0.9)).score == "accuracy"
    found = run([phase(1, 25.4, [24.0, 25.0], score="bleu")], dense=26.0)
    assert found.final is not None
    assert (found.score, found.final.soup_score) == ("bleu", 25.4)
    assert found.metric("dense", "bleu") == 26.0
    assert found.metric("dense", "accuracy") is None


def test_a_run_that_only_trained_has_the_score_of_its_summary() -> None:
    lines = [{"event": "dense", "test_miou": 0.5}]
    assert collected("r", Config(), lines, {"score": "miou"}).score == "miou"
    assert collected("r", Config(), [{"event": "start", "score": "miou"}, *lines]).score == "miou"


def test_metrics_of_corrupted_samples_belong_to_their_models() -> None:
    lines = [
        ood("dense", {"fog": [0.5, 0.3]}),
        ood("phase_1/soup", {"fog": [0.6, 0.2]}),
        ood("phase_1/candidate_1", {"fog": [0.1, 0.3]}),
    ]
    found = run(one_shot(0.9), also=lines)
    assert found.corruptions == "generated"
    assert found.metric("dense", "ood_accuracy") == pytest.approx(0.4)
    assert found.metric("phase_1/soup", "ood_accuracy") == pytest.approx(0.4)
    assert found.candidate_metrics(1, "ood_accuracy") == {1: pytest.approx(0.2)}
    assert run(one_shot(0.9)).metric("phase_1/soup", "ood_accuracy") is None


def test_corruptions_asked_for_later_take_the_place_of_the_first() -> None:
    places = ("dense", "phase_1/candidate_0")
    lines = [*(ood(place, {"fog": [0.5]}) for place in places), ood("dense", {"fog": [0.3]}, "C")]
    found = run(one_shot(0.9), also=lines)
    assert (found.corruptions, found.metric("dense", "ood_accuracy")) == ("C", 0.3)
    assert found.candidate_metrics(1, "ood_accuracy") == {}


def test_corruptions_that_the_journal_missed_come_from_the_summary() -> None:
    told = ood("dense", {"fog": [0.5]})
    summary = {"ood": {told.pop("where"): told}}
    found = collected("r", Config(), events(one_shot(0.9), 0.95, 4, True), summary)
    assert found.metric("dense", "ood_accuracy") == 0.5


def test_what_was_measured_besides_makes_no_other_experiment() -> None:
    settings = ("data.corruptions=generated", "data.workers=2", "data.loader=streaming")
    groups = "data.subgroups={even: ['0'], odd: ['1']}"
    assert run([], *settings, groups).identity == run([]).identity


def test_of_the_same_experiment_the_run_that_measured_more_counts() -> None:
    first = run(one_shot(0.9), folder="a")
    second = run(one_shot(0.9), folder="b", also=[ood("dense", {"fog": [0.5]})])
    assert [r.folder for r in distinct([first, second])[0]] == ["b"]


def test_shards_of_ones_own_are_told_apart_by_their_folder() -> None:
    birds, moved, cars = (
        run([], "data.name=card", f"data.path={path}") for path in ("/a/birds", "/b/birds", "cars")
    )
    assert birds.identity == moved.identity != cars.identity
    assert (birds.data, cars.data) == ("birds", "cars")


def test_the_score_that_a_rule_compares_by_matters_to_that_rule_only() -> None:
    def of(*settings: str) -> object:
        return run([], *settings).identity

    assert of("soup.score=loss") == of()
    assert of("soup.rule=greedy", "soup.score=loss") != of("soup.rule=greedy")
    assert of("soup.rule=learned", "soup.score=loss") == of("soup.rule=learned")
    assert of("soup.rule=mine:rule", "soup.score=loss") != of("soup.rule=mine:rule")


def test_candidates_do_not_matter_to_a_single_one() -> None:
    def of(*settings: str) -> object:
        return run([], *settings).identity

    assert of("method.name=imp", "candidates.count=5") == of("method.name=imp", "soup.rule=greedy")
    assert of("method.name=sms", "candidates.count=5") != of("method.name=sms")
    assert of("method.name=imp_m_times", "candidates.count=5") != of("method.name=imp_m_times")
    vary = "candidates.vary={epochs: [1, 2, 3]}"
    assert of("method.name=imp_m_times", vary) == of("method.name=imp_m_times")
    assert of("method.name=new", vary) != of("method.name=new")


def test_measurements_places_and_seeds_do_not_make_another_experiment() -> None:
    settings = ("seed=3", "soup.pairs=true", "pretrain.from=x", "engine.name=deepspeed", "name=y")
    assert run([], *settings).identity == run([]).identity
    assert run([], "engine.precision=bf16").identity != run([]).identity


def test_the_same_experiment_with_the_same_seed_counts_once() -> None:
    imp = ("method.name=imp", "seed=1")
    first = run(one_shot(0.9), *imp, "candidates.count=3", folder="a", is_done=False)
    second = run(one_shot(0.9), *imp, "candidates.count=5", folder="b")
    other = run(one_shot(0.9), "method.name=imp", "seed=2", folder="c")
    kept, notes = distinct([first, second, other])
    assert [r.folder for r in kept] == ["b", "c"]
    assert notes == ["a is the same experiment as b: counted once"]
