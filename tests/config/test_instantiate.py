import hydra
import pytest
from omegaconf import OmegaConf

from zoo.config.check import check
from zoo.config.instantiate import build, check_target, conf_dir
from zoo.errors import ZooError, nearest
from zoo.models.acai import ACAI
from zoo.runs.build import build_model
from zoo.training.schedules import Constant, Cosine


def test_only_classes_of_the_zoo_and_torch_are_built():
    backbone = build({"_target_": "zoo.nets.conv.ConvBackbone", "image_size": 32, "channels": 1})
    assert backbone.levels == 3
    check_target("torch.optim.Adam")
    check_target("torch.nn.Linear")


@pytest.mark.parametrize("target", [
    "os.system", "subprocess.Popen", "builtins.exec", "zoo.runs.checkpoint.os.system", "zoo.runs.checkpoint.save",
    "zoo.runs.checkpoint.Path", "torch.load", "torch.nn.functional.relu", "zoo.nowhere.Thing", "zoo", 7,
    "torch.nn.modules.module.torch.load",
])  # fmt: skip
def test_anything_else_is_refused_before_it_is_called(target):
    with pytest.raises(ZooError):
        build({"outer": {"inner": [{"_target_": target}]}})


def test_a_users_mistake_inside_a_constructor_stays_one_sentence():
    with pytest.raises(ZooError, match="multiple of 16"):
        build({"_target_": "zoo.nets.conv.ConvBackbone", "image_size": 32, "channels": 1, "width": 7})


def test_nearest_names():
    assert nearest("vaee", ["vae", "ae"]) == "did you mean 'vae'?"
    assert nearest("xyz", ["vae", "ae"]) == "valid: ae, vae."


def test_schedules():
    assert [Constant()(spent) for spent in (0, 0.5, 1)] == [1, 1, 1]
    assert Constant(warmup=0.1)(0.05) == pytest.approx(0.5)
    cosine = Cosine(warmup=0.1, final=0.2)
    assert cosine(0.1) == pytest.approx(1)
    assert cosine(0.55) == pytest.approx(0.6)
    assert cosine(1.0) == pytest.approx(0.2)


ADAM, LIGHT = {"optimizer.lr": 1e-4, "optimizer.betas": [0.9, 0.999], "batch_size": 64}, {"optimizer.lr": 1e-4}
PRESETS = {  # name and options -> parameters (None: not published), published settings
    "acai_lines": (2 * 627_472 + 313_985, ADAM | {"max_images": 2**24, "model.adv_weight": None, "model.reg": 0.2}),
    "acai_lines model=ae": (627_472 + 313_985, ADAM | {"max_images": 2**24}),
    "acai_mnist": (2 * 150_146 + 75_265, ADAM | {"max_images": 2**24, "model.adv_weight": None, "model.reg": 0.2}),
    "vaegan_celeba": (  # 18.1 M, 4.7 M, 11.0 M
        33_830_000,
        {"batch_size": 64, "model.gamma": 1e-6, "model.margin": 0.35, "model.fakes": "prior", "model.objective": "minimax"},
    ),
    "udt_glasses": (  # 6.48 M, 0.74 M, 6.98 M, 1.00 M
        15_200_000,
        {"batch_size": 64, "max_images": 80_000_000, "trainer.gradient_clip_val": 5, "model.adv_weight": 0.001,
         "model.param_groups.autoencoder.lr": 2e-4,
         "optimizer.betas": [0.5, 0.999], "data.crop": 178},
    ),
    "fvae_celebahq": (95_800_000, LIGHT | {"batch_size": 32, "model.flow.levels": 4, "model.flow.depth": 12}),  # 4.73 + 4.73 + 86.4 M
    "glf_mnist": (None, {"batch_size": 256, "model.latent_dim": 20, "model.flow.transforms": 4, "model.joint": True}),
    "cross_ae_cifar10": (None, {"model.train": "both"}),
    "two_stage_celeba": (None, {"model.latent_dim": 64}),
    "gan_faces": (None, {}),
    "udt_faces": (None, {}),
    "vae_celeba": (None, {}),
    "beta_vae_faces": (None, {}),
    "compare": (None, {"data.image_size": 32, "max_images": 50_000, "evaluation.samples": 2_000}),
    "compare_full": (None, {"data.image_size": 64, "evaluation.samples": 10_000}),
}  # fmt: skip


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_models_of_the_published_size_and_settings(preset):
    parameters, published = PRESETS[preset]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        root = ["data.root=DIR"] * (not preset.startswith(("acai_lines", "compare")) and "faces" not in preset)
        config = hydra.compose("train", [*root, *f"experiment={preset}".split()])
    assert {name: OmegaConf.select(config, name) for name in published} == published
    settings = check(config)
    model = build_model(settings.model)
    assert parameters is None or sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.01)
    assert set(model.group_options) <= set(model.param_groups())
    assert not isinstance(model, ACAI) or model.adv_weight == 0.5  # which follows its network


def test_every_preset_is_composed_by_a_test():
    assert {path.stem for path in (conf_dir() / "experiment").glob("*.yaml")} == {preset.split()[0] for preset in PRESETS}
