"""`sms-dist samples`: the predictions shown are those that the metrics of the run count."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from sms_dist.cli.main import cli
from sms_dist.cli.predictions import Sample, open_run, picture, predictions
from sms_dist.config import file as config_file
from sms_dist.data.prepare import prepare
from sms_dist.mesh import topology
from sms_dist.run import store
from sms_dist.run.paths import METRICS, WEIGHTS, RunPaths
from sms_dist.tasks.translation import bleu_totals
from sms_dist.training.context import set_up
from sms_dist.training.evaluation import measured

sys.path.append(str(Path(__file__).resolve().parents[1] / "distributed"))
from launching import MAIN, launch_forked

RANDOM = np.random.default_rng(0)
# What a run may have had that this machine has not.
ELSEWHERE = (
    *("engine.device=cuda", "engine.precision=fp16", "engine.ranks_per_candidate=2"),
    *("pretrain.ranks=4", "data.workers=3"),
)
SMALL_RUN = (
    *("data.name=digits", "data.train_samples=200", "model.options={width: 4}"),
    *("pretrain.epochs=4", "retrain.epochs=1", "pruning.phases=2", "candidates.count=2"),
    *("soup.ensemble=false", "records.tensorboard=false"),
)


def call(*arguments: str | Path | int, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, ["samples", *map(str, arguments)], env=env)


def refusal(*arguments: str | Path | int) -> str:
    result = call(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def everything(run: Path, phase: int | None = None, *settings: str) -> list[Sample]:
    return list(predictions(open_run(run, phase, settings)))


def stored(run: Path, phase: int) -> dict[str, float]:
    """Metrics of a soup, or of the dense model (0), as they were measured in the run."""
    paths = RunPaths(run)
    document = store.load_document(paths.soup(phase) if phase else paths.dense, METRICS)
    return dict(document["soup"] if phase else document)


def run_of(folder: Path, settings: list[str]) -> Path:
    """A run with one phase as it is stored, of models whose weights were only drawn."""
    config = config_file.load(None, [*settings, "data.batch_size=3"])
    context, paths = set_up(config, topology.by_itself(config.engine.device)), RunPaths(folder)
    for phase, target in ((0, paths.dense), (1, paths.soup(1))):
        state = context.new_model().state_dict()
        if phase:
            state |= {name: torch.roll(state[name], 1) for name in context.prunable}
        state, metrics = measured(context, state, context.mesh.world)
        soup = {"phase": 1, "sparsity": 0.5, "score": context.task.score, "candidates": []}
        document = {**soup, "soup": metrics} if phase else metrics
        store.save(target, {WEIGHTS: state}, {METRICS: document})
    paths.config.write_text(config_file.dump(config_file.load(None, [*settings, *ELSEWHERE])))
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the program itself."""
    run = tmp_path_factory.mktemp("digits") / "run"
    settings = [word for setting in SMALL_RUN for word in ("--set", setting)]
    finished = launch_forked(MAIN, ["--run-dir", run, *settings], run.parent)
    assert finished.status == 0, finished
    return run


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CamVid in small; in the first test image no pixel counts."""
    folder = tmp_path_factory.mktemp("streets")
    for part, count in (("train", 6), ("val", 2), ("test", 5)):
        for number in range(count):
            void = part == "test" and number == 0
            mask = np.full((24, 32), 11) if void else RANDOM.integers(0, 12, (24, 32))
            image = RANDOM.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            for name, pixels in ((part, image), (f"{part}annot", mask.astype(np.uint8))):
                (folder / "source" / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / "source" / name / f"{number}.png")
    prepare("camvid", folder / "source", folder / "shards", 4, str)
    settings = [
        *("data.name=camvid", f"data.path={folder / 'shards'}", "data.size=[24, 32]"),
        *("data.validation=0.0", "model.name=pspnet", "model.options={backbone: resnet18}"),
    ]
    return run_of(folder / "run", settings)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("texts")
    for split, count in (("train", 8), ("test", 5)):
        for language, word in (("en", "dog"), ("de", "Hund")):
            lines = [f"{word} {number}" for number in range(count)]
            (folder / f"{split}.{language}").write_text("\n".join(lines) + "\n")
    sizes = "{d_model: 8, d_ff: 8, d_kv: 4, num_heads: 2, num_layers: 1}"
    settings = [
        *("data.name=parallel", f"data.path={folder}", "data.max_length=12"),
        *("data.validation=0.0", "model.name=t5", f"model.options={sizes}"),
    ]
    return run_of(folder / "run", settings)


def test_the_classes_shown_are_those_that_were_measured(digits: Path) -> None:
    assert [*open_run(digits, None, []).models] == ["dense", "phase 1", "phase 2"]
    found = everything(digits)
    assert [sample.place for sample in found] == list(range(len(found)))
    for phase in (0, 1, 2):
        right = [sample.answers[phase][0] == sample.wanted for sample in found]
        assert sum(right) / len(right) == stored(digits, phase)["test_accuracy"]
    assert all(0.1 <= probable <= 1 for sample in found for _, probable in sample.answers)


def test_images_are_shown_with_the_pixels_that_are_stored(digits: Path) -> None:
    opened = open_run(digits, 1, [])
    assert opened.context.loaders.stored_test is not None
    images, targets = opened.context.loaders.stored_test(0, 20)
    for sample in everything(digits, 1)[:20]:
        assert np.array_equal(sample.given, images[sample.place].numpy())
        assert sample.wanted == int(targets[sample.place])


def test_a_picture_is_written_into_the_run_folder_or_where_one_wants_it(
    digits: Path, tmp_path: Path
) -> None:
    result = call(digits, "--num", 3)
    assert result.output == f"wrote {digits / 'samples.png'}\n"
    call(digits, "--num", 6, "--to", tmp_path / "six.png")
    with Image.open(digits / "samples.png") as three, Image.open(tmp_path / "six.png") as six:
        assert (three.format, three.height) == ("PNG", six.height)
        assert six.width - 12 == 2 * (three.width - 12)


def test_samples_on_which_models_differ_are_found_beyond_the_first_batch(
    digits: Path, tmp_path: Path
) -> None:
    opened = open_run(digits, None, [])
    disputed = [sample for sample in predictions(opened) if sample.is_disputed]
    assert disputed[-1].place > opened.context.config.data.batch_size
    call(digits, "--differing", "--num", 1000)
    picture(disputed, opened).save(tmp_path / "all.png")
    assert (digits / "samples.png").read_bytes() == (tmp_path / "all.png").read_bytes()


def test_a_phase_stands_beside_the_dense_model(digits: Path) -> None:
    assert [*open_run(digits, 2, []).models] == ["dense", "phase 2"]
    assert [*open_run(digits, 0, []).models] == ["dense"]
    line = open_run(digits, 2, []).facts[-1]
    assert line.startswith("phase 2, sparsity 0.89")
    assert line.endswith(f": accuracy {stored(digits, 2)['test_accuracy']:.2%}")


def test_a_run_that_goes_on_shows_what_is_finished(digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    shutil.rmtree(run / "phase_2" / "soup")
    assert [*open_run(run, None, []).models] == ["dense", "phase 1"]
    shutil.rmtree(run / "phase_1")
    assert call(run, "--num", 1).exit_code == 0
    assert "--differing: dense is the only model here" in refusal(run, "--differing")
    assert "--phase 1 is not finished" in refusal(run, "--phase", 1)


def test_a_dense_model_that_was_not_trained_to_the_end_is_not_shown(
    streets: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(streets, run)
    shutil.rmtree(run / "dense")
    weights = store.load_tensors(RunPaths(streets).dense, WEIGHTS)
    document = {"epochs_trained": 0, "epochs_total": 9, "test_miou": 0.1}
    store.save(RunPaths(run).dense, {WEIGHTS: weights}, {METRICS: document})
    assert [*open_run(run, None, []).models] == ["phase 1"]
    shutil.rmtree(run / "phase_1")
    assert "no model is finished" in refusal(run)


def test_the_masks_shown_are_those_that_were_measured(streets: Path) -> None:
    found = everything(streets)
    for phase in (0, 1):
        confusion = np.zeros((11, 11))
        for sample in found:
            counts = sample.wanted != 11
            pair = (sample.wanted[counts], sample.answers[phase][0][counts])
            np.add.at(confusion, pair, 1)
        both = confusion.diagonal()
        either = confusion.sum(0) + confusion.sum(1) - both
        miou = (both[either > 0] / either[either > 0]).mean()
        assert miou == pytest.approx(stored(streets, phase)["test_miou"])


def test_the_miou_of_an_image_is_its_own_and_missing_where_no_pixel_counts(streets: Path) -> None:
    first, second, *_ = everything(streets)
    assert [miou for _, miou in first.answers] == [None, None]
    mask, counts = second.answers[0][0], second.wanted != 11
    ious = []
    for number in np.union1d(second.wanted[counts], mask[counts]):
        wanted, found = (second.wanted == number) & counts, (mask == number) & counts
        ious.append((wanted & found).sum() / (wanted | found).sum())
    assert second.answers[0][1] == pytest.approx(np.mean(ious))


def test_a_moved_data_set_is_named_with_set(streets: Path, tmp_path: Path) -> None:
    shards = Path(open_run(streets, None, []).context.config.data.path or "")
    moved = shards.rename(tmp_path / "moved")
    try:
        assert f"data.path={shards} is no folder" in refusal(streets)
        target, setting = tmp_path / "masks.png", f"data.path={moved}"
        result = call(streets, "--num", 2, "--to", target, "--set", setting)
        assert result.output == f"wrote {target}\n"
        assert len(everything(streets, None, setting, "data.loader=streaming")) == 5
    finally:
        moved.rename(shards)


def test_translations_are_told_on_the_terminal_or_in_a_file(texts: Path, tmp_path: Path) -> None:
    shown = call(texts, "--num", 2).stdout
    assert "phase 1, sparsity 0.5: BLEU 0.00\n\n#0\n  source     dog 0\n" in shown
    assert "  reference  Hund 1\n  dense      " in shown
    assert "#2" not in shown
    call(texts, "--num", 2, "--to", tmp_path / "told.txt")
    assert (tmp_path / "told.txt").read_text() == shown


def test_the_translations_shown_are_those_that_were_measured(texts: Path) -> None:
    opened = open_run(texts, None, [])
    found = list(predictions(opened))
    references = [sample.wanted for sample in found]
    for phase, model in enumerate(opened.models.values()):
        said = bleu_totals([sample.answers[phase][0] for sample in found], references)
        batches = opened.context.loaders.test.part(0, 1)
        totals = sum(opened.context.task.totals(model, batch) for batch in batches)
        assert torch.equal(said, totals[-len(said) :])


def test_processes_of_a_launcher_are_not_waited_for(digits: Path) -> None:
    world = {"WORLD_SIZE": "8", "RANK": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    assert call(digits, "--num", 1, env=world).exit_code == 0


def test_mistakes_are_one_line_and_status_2(digits: Path, tmp_path: Path) -> None:
    assert "is no run folder: it has no config.yaml" in refusal(tmp_path)
    assert "--phase 7 is not finished in" in refusal(digits, "--phase", 7)
    assert "finished: 0, 1, 2" in refusal(digits, "--phase", 3)
    assert "there: no such file" in refusal(digits, "--to", tmp_path / "not" / "there")
    assert "seed='x' should be a valid integer" in refusal(digits, "--set", "seed=x")
    other = refusal(digits, "--set", "model.options={width: 8}")
    assert "has the shape" in other
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    assert "has no finished phase yet; run it first" in refusal(tmp_path)


def test_damaged_weights_are_refused(digits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits, run)
    (RunPaths(run).soup(1) / WEIGHTS).write_bytes(b"x")
    assert "differs from its checksum" in refusal(run)
    assert call(run, "--phase", 2).exit_code == 0
