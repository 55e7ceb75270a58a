"""An autoencoder inside a model: trained first or given, then left as it is; early stopping; the same end wherever a run was stopped."""

import shutil
from pathlib import Path

import pytest
import torch

import zoo as package
from tests.training.test_ddp import furthest, weights
from tests.training.test_resume import assert_equal, assert_same_end, final
from tests.training.test_stages import checkpoints, cut, rows, summary, train_each
from zoo.evaluation.context import EvalContext
from zoo.evaluation.samples import priors, samples
from zoo.runs.load import open_run
from zoo.runs.run_folder import read_run
from zoo.runs.status import state_of, status_of
from zoo.training.trainer import moving_average

BOTH = [
    "model=two_stage",
    "model.autoencoder.backbone.width=16",
    "model.check_every_images=16",
    "ema_decay=0.9",
    "data.flip=true",
    "trainer.gradient_clip_val=10",
]
OVERFIT = ["model.check_every_images=8", "model.patience=4", "model.param_groups.flow={lr: 0.05}", "scheduler=constant", "max_images=2000"]
EVERY = ["checkpoint_every_images=8", "keep_last_k=999"]


@pytest.fixture(scope="module")
def tiny(tiny) -> list[str]:
    """4 steps for each of two stages."""
    return [option for option in tiny if not option.startswith("model.backbone")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny) -> Path:
    """`both`: two stages of 32 images; `vae`, `gan`: one of 32; `early`: a flow of the first stage's codes, until it has overfitted."""
    folder = tmp_path_factory.mktemp("trained")
    one = ["model.backbone.width=16", "max_images=32"]
    commands = {
        "both": [*BOTH, *EVERY],
        "vae": ["model=vae", *one],
        "gan": ["model=gan", "pretrain=none", *one],
        "early": [*BOTH, *OVERFIT, *EVERY, "ema_decay=null", "val_every_images=2000", f"pretrain.run={folder / 'both' / 'pretrain'}"],
    }
    return train_each(folder, tiny, commands)


@pytest.fixture
def run(trained, tmp_path):
    """Copies one of the trained runs here."""
    return lambda name: shutil.copytree(trained / name, tmp_path / name)


def looks(run: Path) -> dict[int, float]:
    """The likelihood of held-out codes by images seen."""
    return {int(row["images_seen"]): float(row["train/held_out_nll"]) for row in rows(run) if row["train/held_out_nll"]}


@torch.no_grad()
def held_out_nll(run: Path) -> float:
    """Of the newest checkpoint, from the images."""
    opened = open_run(run)
    images = torch.cat([batch.image for batch in opened.data().read("train")])[9::10]
    return -opened.model.prior.log_prob(opened.model.encode(images)).double().mean().item()


def test_the_second_stage_changes_no_weight_of_the_first(trained):
    """Nor do averaged weights drift away by rounding."""
    first, second = final(trained / "both" / "pretrain")["state_dict"], final(trained / "both")
    for kind in ("state_dict", "current_model_state"):
        nested = {name.removeprefix("autoencoder."): value for name, value in second[kind].items() if name.startswith("autoencoder.")}
        assert_equal(nested, first)
    flow = [name for name in second["state_dict"] if name.startswith("prior.transform.")]
    assert len(flow) > 4


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.9, 0.999, 0.9999])
def test_averaging_leaves_alone_what_does_not_move_and_what_is_no_weight(decay):
    average = moving_average(decay)
    weight, order = torch.randn(1000, generator=torch.Generator().manual_seed(0)), torch.arange(64)
    assert torch.equal(average(weight, weight.clone(), 1), weight)
    assert torch.equal(average(order, order.clone(), 1), order)
    assert average(torch.tensor(True), torch.tensor(True), 1)
    for count in (0, 1, 50, 10**9):
        here = min(decay, (1 + count) / (10 + count))  # a short training is not averaged with its start
        found = average(weight, weight.flip(0), torch.tensor(count))
        torch.testing.assert_close(found, here * weight + (1 - here) * weight.flip(0), rtol=1e-5, atol=1e-6)


def test_both_stages_in_one_command(trained):
    assert (summary(trained / "both" / "pretrain")["model"], summary(trained / "both")["model"]) == ("ae", "two_stage")
    assert checkpoints(trained / "both") == [40, 48, 56, 64]
    assert list(looks(trained / "both")) == [48, 64]
    assert {"val/loss", "train/loss", "train/gradient_norm/flow"} <= rows(trained / "both")[-1].keys()


@pytest.mark.parametrize("images", [16, 32, 40, 48])
def test_killed_in_either_stage_or_between_then_resumed(trained, zoo, tmp_path, images):
    stopped = cut(trained / "both", images, tmp_path / "cut")
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0, resumed.err
    for stage in ("pretrain", "."):
        assert_same_end(trained / "both" / stage, stopped / stage)
    assert_equal(final(trained / "both")["early_stopping"], final(stopped)["early_stopping"])


def test_training_ends_early_with_the_best_flow(trained):
    found = looks(trained / "early")
    best = min(found, key=found.__getitem__)
    last = checkpoints(trained / "early")[-1]
    assert list(found)[-1] == last < 2000
    assert last == best + 4 * 8  # the patience
    assert found[best] < found[last] - 0.1
    assert held_out_nll(trained / "early") == pytest.approx(found[best], rel=1e-5)
    assert summary(trained / "early")["images_seen"] == last
    opened = open_run(trained / "early")
    with torch.no_grad():
        codes = opened.model.encode(opened.data().some_images("val", 999).image)
        reported = -opened.model.prior.log_prob(codes).mean().item()
    assert summary(trained / "early")["metrics"]["val/loss"] == pytest.approx(reported, rel=1e-4)  # what is reported is what is kept


def test_a_run_that_ended_early_is_finished_for_its_max_images(run):
    early = run("early")
    training = summary(early)["training"]
    assert training.pop("ended").startswith("held-out codes got no likelier in 4 looks")
    assert (training, checkpoints(early)[-1] < 2000) == ({"max_images": 2000, "complete": True}, True)

    def states() -> tuple[str, str]:
        return state_of(early), status_of(read_run(early, early, []), 0)[0]

    assert states() == ("finished", "finished")
    config = (early / "config.yaml").read_text()
    for max_images, found in ((1000, ("finished", "finished")), (4000, ("interrupted", "training"))):  # resumed, and killed at once
        (early / "config.yaml").write_text(config.replace("max_images: 2000", f"max_images: {max_images}"))
        assert states() == found


def test_averaged_weights_are_scored_and_saved(trained, zoo, tiny, tmp_path):
    done = zoo(
        "train", *tiny, *BOTH, *OVERFIT, "val_every_images=2000", f"pretrain.run={trained / 'both' / 'pretrain'}", "hydra.run.dir=run"
    )
    assert done.code == 0, done.err
    found, plain = looks(tmp_path / "run"), looks(trained / "early")
    assert any(found[seen] != plain[seen] for seen in found.keys() & plain.keys())
    assert held_out_nll(tmp_path / "run") == pytest.approx(min(found.values()), rel=1e-5)
    state = final(tmp_path / "run")
    assert_equal(state["state_dict"], state["current_model_state"])


def test_an_ended_run_stays_ended(run, zoo):
    early = run("early")
    before, numbers = final(early), summary(early)["metrics"]
    resumed = zoo("train", "resume=early", "max_images=4000")
    assert resumed.code == 0, resumed.err
    assert "Training ended after" in resumed.out
    assert_equal(final(early)["state_dict"], before["state_dict"])
    assert final(early)["global_step"] == before["global_step"]
    assert summary(early)["metrics"] == numbers
    assert state_of(early) == "finished"


def test_a_run_killed_before_it_ends_early_ends_at_the_same_place(trained, zoo, tmp_path):
    reached = checkpoints(trained / "early")
    stopped = cut(trained / "early", reached[-4], tmp_path / "cut")
    resumed = zoo("train", "resume=cut")
    assert resumed.code == 0, resumed.err
    assert "Training ended after" in resumed.out
    assert_same_end(trained / "early", stopped)


def test_whatever_was_trained_becomes_the_autoencoder(trained, zoo, tiny, tmp_path):
    """Its kind, its networks and its latent size are those of the run, whatever model.autoencoder says."""
    own = [option for option in tiny if "latent_dim" not in option]
    done = zoo("train", *own, "model=two_stage", f"pretrain.run={trained / 'vae'}", "hydra.run.dir=run")
    assert done.code == 0, done.err
    model = package.load(tmp_path / "run")
    assert (type(model.autoencoder).__name__, model.latent_dim) == ("VAE", 4)
    assert_equal(dict(model.autoencoder.state_dict()), dict(package.load(trained / "vae").state_dict()))


def test_a_loaded_run_samples_by_its_flow(trained):
    model = package.load(trained / "both")
    with torch.no_grad():
        images = model.sample(3, torch.Generator().manual_seed(0))
        assert torch.equal(images, model.decode(model.prior.sample(3, torch.Generator().manual_seed(0))))
    assert images.shape == (3, 1, 28, 28)
    assert (model.prior.scale != 1).all()


@torch.no_grad()
def test_the_flow_is_reported_beside_a_gaussian_and_a_mixture_of_the_same_codes(trained):
    opened = open_run(trained / "both")
    store = opened.data().store
    context = EvalContext(opened.model, store, count=12)
    context.wanted = {"latent_nll"}
    found = samples(context)
    assert [(one.prior, one.metric) for one in found] == [(prior, "latent_nll") for prior in ("flow", "gaussian", "mixture")]
    codes = opened.model.encode(opened.data().some_images("train", 36).image).double()
    gaussian = priors(context)["gaussian"]
    torch.testing.assert_close(gaussian.mean.double(), codes.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((gaussian.scale_tril @ gaussian.scale_tril.T).double(), codes.T.cov(), rtol=1e-3, atol=1e-5)
    tested = opened.model.encode(opened.data().some_images("test", 12).image)
    assert found[0].value == pytest.approx(-opened.model.prior.log_prob(tested).mean().item(), rel=1e-4)


def test_jointly_from_scratch(zoo, tiny, tmp_path):
    done = zoo("train", *tiny, *BOTH, *EVERY, "model.joint=true", "pretrain=none", "model.param_groups.flow.lr=5e-4", "hydra.run.dir=run")
    assert done.code == 0, done.err
    row = rows(tmp_path / "run")[-1]
    assert float(row["train/loss"]) == pytest.approx(float(row["train/reconstruction"]) + float(row["train/nll"]), rel=1e-5)
    rates = [float(row[f"train/learning_rate/{group_name}"]) for group_name in ("autoencoder", "flow")]
    assert rates[0] == pytest.approx(4 * rates[1], rel=1e-6)  # each has its own
    assert "train/held_out_nll" not in row
    cut(tmp_path / "run", 40, tmp_path / "cut")
    assert zoo("train", "resume=cut").code == 0
    assert_same_end(tmp_path / "run", tmp_path / "cut")


@pytest.mark.parametrize(("options", "said"), [
    (["pretrain=none"], "needs a trained autoencoder, but pretrain=none"),
    (["model.joint=true"], "joint=true trains autoencoder and flow at once, from scratch; add pretrain=none"),
    (["pretrain.run=gan"], "must encode images, but a GAN cannot"),
    (["pretrain.run=both"], "itself a TwoStage"),
    (["pretrain.run=vae", "data.image_size=32"], "data.image_size=28"),
    (["model.autoencoder.latent_dim=5"], "latent_dim=4 is not that of model.autoencoder, 5"),
    (["model@model.autoencoder=vae", "model.joint=true", "pretrain=none"], "not a VAE"),
    (["+model.param_groups.autoencoder.lr=1"], "names a parameter group 'autoencoder'; TwoStage has: flow"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_is_written(zoo, tiny, tmp_path, options, said, trained):
    for name in ("vae", "gan", "both"):
        (tmp_path / name).symlink_to(trained / name)
    refused = zoo("train", *tiny, "model=two_stage", *options, "max_images=128", "hydra.run.dir=run")
    assert refused.code == 2, refused.out
    assert said in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_equal_one(trained, shell, tiny, tmp_path):
    """Each encodes all images, and all agree on when to end."""
    own = [*BOTH, *OVERFIT, *EVERY, "ema_decay=null", "val_every_images=2000", f"pretrain.run={trained / 'both' / 'pretrain'}"]
    process = shell("train", *tiny, *own, "trainer.devices=2", "trainer.accelerator=cpu", "hydra.run.dir=two")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert output.count("Training ended after") == 1
    one, two = looks(trained / "early"), looks(tmp_path / "two")
    assert list(one) == list(two)
    assert list(one.values()) == pytest.approx(list(two.values()), rel=1e-3)
    alone, together = ({name: value.double() for name, value in weights(run).items()} for run in (trained / "early", tmp_path / "two"))
    assert furthest(alone, together) < 1e-3
