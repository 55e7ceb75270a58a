import pytest

from zoo.engine.config import build, check_target, nearest
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
