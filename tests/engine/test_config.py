import hydra
import pytest

from zoo.engine.config import build, build_model, check_target, conf_dir, nearest
from zoo.engine.schedules import Constant, Cosine
from zoo.errors import ZooError


def test_only_classes_of_the_zoo_and_torch_are_built():
    backbone = build({"_target_": "zoo.nets.conv.ConvBackbone", "image_size": 32, "channels": 1})
    assert backbone.levels == 3
    check_target("torch.optim.Adam")
    check_target("torch.nn.Linear")


@pytest.mark.parametrize("target", [
    "os.system", "subprocess.Popen", "builtins.exec", "zoo.engine.checkpoint.os.system", "zoo.engine.checkpoint.save",
    "zoo.engine.checkpoint.Path", "torch.load", "torch.nn.functional.relu", "zoo.nowhere.Thing", "zoo", 7,
    "torch.nn.modules.module.torch.load",
])  # fmt: skip
def test_anything_else_is_refused_before_it_is_called(target):
    with pytest.raises(ZooError):
        build({"outer": {"inner": [{"_target_": target}]}})


def test_a_users_mistake_inside_a_constructor_stays_one_sentence():
    with pytest.raises(ZooError, match="sigmoid"):
        build({"_target_": "zoo.nets.conv.ConvBackbone", "image_size": 32, "channels": 1, "output": "sigmoid"})


def test_nearest_names():
    assert nearest("vaee", ["vae", "ae"]) == "did you mean 'vae'?"
    assert nearest("xyz", ["vae", "ae"]) == "valid: ae, vae"


def test_schedules():
    assert [Constant()(spent) for spent in (0, 0.5, 1)] == [1, 1, 1]
    assert Constant(warmup=0.1)(0.05) == pytest.approx(0.5)
    cosine = Cosine(warmup=0.1, final=0.2)
    assert cosine(0.1) == pytest.approx(1)
    assert cosine(0.55) == pytest.approx(0.6)
    assert cosine(1.0) == pytest.approx(0.2)


@pytest.mark.parametrize(("experiment", "parameters"), [
    ("acai_lines", 2 * 627_472 + 313_985),  # methods.md: 627k and 314k, and a critic as large as the encoder
    ("acai_lines model=ae", 627_472 + 313_985),
    ("acai_mnist", 2 * 150_146 + 75_265),
    ("vaegan_celeba", 33_830_000),  # 18.1 M, 4.7 M, 11.0 M
    ("udt_glasses", 15_200_000),  # 6.48 M, 0.74 M, 6.98 M, 1.00 M
    ("gan_faces", None),
    ("vae_celeba", None),
    ("beta_vae_faces", None),
])  # fmt: skip
def test_the_presets_compose_to_models_of_the_published_size(experiment, parameters):
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = hydra.compose(
            "train", ["data.root=DIR"] * ("lines" not in experiment and "faces" not in experiment) + f"experiment={experiment}".split()
        )
    model = build_model(config.model)
    assert parameters is None or sum(p.numel() for p in model.parameters()) == pytest.approx(parameters, rel=0.01)
    assert set(model.player_options) <= set(model.players())


def test_every_preset_is_composed_by_a_test():
    assert {path.stem for path in (conf_dir() / "experiment").glob("*.yaml")} == {
        "acai_lines", "acai_mnist", "vaegan_celeba", "udt_glasses", "gan_faces", "vae_celeba", "beta_vae_faces",
    }  # fmt: skip
