import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.evaluation.protocol import evaluate
from zoo.runs.measurements import by_flat_name, measurements_of
from zoo.runs.records import read_metrics
from zoo.train import main as start_training
from zoo.training import final_evaluation

ROOT = str(Path(final_evaluation.__file__).parents[2])
FACES = ["data=faces", "data.image_size=32", "data.source.train=300", "data.source.val=24", "data.source.test=80", "logger=none"]
SMALL = ["model.latent_dim=4", "model.backbone.width=16", "batch_size=16", "max_images=320", "hydra.run.dir=run"]
FAST = "priors=[gaussian,mixture]"  # a flow takes a while to fit


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny trained run on faces, with a final evaluation of 24 images."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["zoo.train", *FACES, *SMALL, "ema_decay=0.9"])
        start_training()
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "run")


def test_the_final_evaluation_of_a_run_is_the_protocol_with_a_small_n(run):
    metrics = read_metrics(run)
    assert {"val/samples/normal/frechet@24", "val/reconstructions/ssim@24", "val/representation/mig@24"} <= set(metrics)
    assert metrics["val/samples/normal/frechet@24"] > 0
    assert metrics["val/reconstructions/mse@24"] == pytest.approx(metrics["val/mse"], rel=1e-5)
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert "val/samples/normal/frechet@24" in header


def numbers_of(path) -> dict[str, float]:
    """The measurements of a file by their flat names."""
    return by_flat_name(measurements_of(json.loads(path.read_text())))


def test_resuming_a_run_at_its_end_measures_only_what_is_missing(zoo, run, monkeypatch):
    """As if it had been killed before summary.json, written by a version that lost the numbers, or resumed for nothing."""
    summary, evaluated = json.loads((run / "summary.json").read_text()), []
    monkeypatch.setattr(final_evaluation, "evaluate", lambda *arguments: evaluated.append(1) or evaluate(*arguments))

    def resumed() -> tuple[dict, int]:
        evaluated.clear()
        done = zoo("train", "resume=run")
        assert done.code == 0, done.err
        return json.loads((run / "summary.json").read_text()), len(evaluated)

    found, times = resumed()
    assert times == 0
    assert all(found[name] == summary[name] for name in ("metrics", "measurements", "peak_memory_mib"))
    known = by_flat_name(measurements_of(summary))
    (run / "summary.json").unlink()
    found, times = resumed()
    assert (found["metrics"], times) == (pytest.approx(summary["metrics"], rel=1e-5), 1)
    assert by_flat_name(measurements_of(found)) == pytest.approx(known, rel=1e-5)
    (run / "summary.json").write_text(json.dumps(summary | {"measurements": []}))
    assert resumed()[0]["measurements"] == found["measurements"]


def test_everything_is_written_and_the_same_twice(zoo, run):
    outcome = zoo("evaluate", "run=run", FAST)
    assert outcome.code == 0, outcome.err
    assert "evaluation.json" in outcome.out
    first = (run / "evaluation.json").read_bytes()
    content = json.loads(first)
    assert content["measured"]["split"] == "test"
    assert content["command"].startswith("python -m zoo.train data=faces")
    assert content["features"]["classifier"]["accuracy"] > 0.8
    assert by_flat_name(measurements_of(content))["samples/mixture/coverage@80"] >= 0
    assert '    { "group": "samples", "metric": "laplacian_energy_ratio", ' in first.decode()  # a record a line
    cost = json.loads((run / "cost.json").read_text())
    assert cost["sampling/images_per_second"] > 0
    assert cost["train/images_seen"] == 320
    assert cost["train/machine"] == cost["sampling/machine"]
    images = {path.name for path in (run / "evaluation").iterdir()}
    samples = {f"samples-{prior}.png" for prior in ("normal", "gaussian", "mixture")}
    assert images == samples | {"reconstructions.png", "interpolations.png", "edits.png"}
    assert zoo("evaluate", "run=run", FAST).code == 0
    assert (run / "evaluation.json").read_bytes() == first


def test_other_measurements_join_those_of_the_same_weights_and_images(zoo, run):
    assert zoo("evaluate", "run=run", "metrics=[mse]", FAST).code == 0
    assert zoo("evaluate", "run=run", "metrics=[mse]", FAST, "samples=40").code == 0
    content = json.loads((run / "evaluation.json").read_text())
    assert set(numbers_of(run / "evaluation.json")) == {"reconstructions/mse@80", "reconstructions/mse@40"}
    assert zoo("evaluate", "run=run", "metrics=[mse]", FAST, "split=val").code == 0
    assert set(numbers_of(run / "evaluation-val.json")) == {"val/reconstructions/mse@24"}
    assert json.loads((run / "evaluation.json").read_text()) == content
    assert zoo("evaluate", "run=run", "metrics=[mse]", FAST, "seed=1").code == 0  # another seed begins a new file
    assert set(numbers_of(run / "evaluation.json")) == {"reconstructions/mse@80"}
    (run / "evaluation.json").write_text(json.dumps(content | {"format": 1, "metrics": {"reconstructions/mse@40": 1.0}}))
    assert zoo("evaluate", "run=run", "metrics=[psnr]", FAST).code == 0  # and so does an older format
    assert set(numbers_of(run / "evaluation.json")) == {"reconstructions/psnr@80"}
    (run / "evaluation.json").write_text("{")
    assert "evaluation.json is damaged; remove it" in zoo("evaluate", "run=run", "metrics=[psnr]", FAST).err


def test_a_checkpoint_alone_is_enough(zoo, run, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(next((run / "checkpoints").glob("*320.ckpt")), alone / "model.ckpt")
    outcome = zoo("evaluate", "run=alone/model.ckpt", "metrics=[psnr]", FAST)
    assert outcome.code == 0, outcome.err
    assert numbers_of(alone / "evaluation.json")["reconstructions/psnr@80"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run=nowhere"], "run=nowhere does not exist"),
        (["run=run", "metrics=[fid]"], "metrics=fid is not known"),
        (["run=run", "split=training"], "split=training is not known; use test, val or train"),
        (["run=2024"], "run=2024 does not exist"),
        (["run=run", "metrics=5"], "metrics=5 must be a list of names"),
        (["run=run", "metrics=[]"], "must be a list of names"),
        (["run=run", "priors=[gauss]"], "priors=['gauss'] must be a list of some of gaussian, mixture, flow"),
        (["run=run", "priors=3"], "priors=3 must be a list of some of gaussian, mixture, flow"),
        (["run=run", "seed=-1"], "seed=-1 must be a whole number of at least 0"),
        (["run=run", "features=inception", "features.weights=5"], "There is no file features.weights=5"),
        (["run=run", "samples=0"], "samples=0 must be a whole number of at least 1"),
        (["run=run", "samples=10"], "10 images are too few"),
        (["run=run", "features=inception"], "features.weights=FILE"),
        (["run=run", "features.weights=FILE"], "features.weights belongs to features=inception"),
        (["run=run", "device=cuda"], "this machine has no GPU"),
        (["run=run", "data_root=DIR"], "made by the program"),
        ([], "The setting run has no default"),
    ],
)
def test_bad_input_is_one_sentence(zoo, run, arguments, sentence):
    outcome = zoo("evaluate", *arguments)
    assert outcome.code == 2
    assert sentence in outcome.err
    assert outcome.err.count("\n") == 1
    assert "Traceback" not in outcome.err


def test_a_run_without_a_checkpoint_is_one_sentence(zoo, run):
    shutil.rmtree(run / "checkpoints")
    outcome = zoo("evaluate", "run=run")
    assert outcome.code == 2
    assert "has no checkpoint" in outcome.err


def test_an_unknown_metric_of_the_final_evaluation_is_refused_before_training(zoo, tmp_path):
    outcome = zoo("train", *FACES, *SMALL, "evaluation.metrics=[fid]")
    assert outcome.code == 2
    assert "evaluation.metrics=fid is not known" in outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_trained_model_scores_better_than_an_untrained_one(zoo, tmp_path):
    faces = ["data=faces", "data.image_size=32", "data.source.train=4000", "data.source.val=24", "data.source.test=500", "logger=none"]
    numbers = {}
    for max_images, warmup in ((32, 0), (40_000, 0.05)):
        assert zoo("train", *faces, f"max_images={max_images}", f"scheduler.warmup={warmup}", f"hydra.run.dir={max_images}").code == 0
        assert zoo("evaluate", f"run={max_images}", FAST).code == 0
        numbers[max_images] = numbers_of(tmp_path / str(max_images) / "evaluation.json")
    lower = ["reconstructions/mse", "reconstructions/frechet", "interpolations/frechet", "likelihood/elbo_bits_per_dim"]
    higher = ["reconstructions/psnr", "reconstructions/ssim", "attributes/success", "attributes/truth_cosine", "representation/mig"]
    higher += [
        f"representation/{name}" for name in ("linear_balanced_accuracy", "linear_average_precision", "knn_balanced_accuracy", "factor_r2")
    ]
    for prior in ("normal", "gaussian", "mixture"):
        lower += [f"samples/{prior}/{name}" for name in ("frechet", "kernel_distance")]
        higher += [f"samples/{prior}/{name}" for name in ("precision", "density", "coverage")]
    for name in (*lower, *higher):
        count = 100 if name.startswith("attributes/") else 500
        untrained, trained = (numbers[max_images][f"{name}@{count}"] for max_images in (32, 40_000))
        assert (trained < untrained) if name in lower else (trained > untrained), f"{name}: {untrained} untrained, {trained} trained"


@pytest.mark.parametrize(
    "words", [["zoo.evaluate", "run=x", "metrics=frechett"], ["zoo.generate", "run=x", "mode=sample"], ["zoo.bench", "images=3"]]
)
def test_a_bad_setting_is_refused_before_torch_is_imported(words, tmp_path):
    program = f"""
import runpy, sys
sys.argv = {words}
try:
    runpy.run_module("{words[0]}", run_name="__main__")
finally:
    print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ROOT}
    )
    assert (done.returncode, done.stdout.strip()) == (2, "False")
    assert done.stderr.startswith("zoo: ")
