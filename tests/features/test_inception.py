"""InceptionV3 with weights that the tests draw themselves: the wiring, not the numbers."""

import sys

import pytest
import torch

from zoo.errors import ZooError
from zoo.features.cache import read
from zoo.features.inception import URL, inception_from


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights for torch-fidelity's network."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    path = tmp_path_factory.mktemp("inception") / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.manual_seed(0)
        net = module.FeatureExtractorInceptionV3("inception", ["2048"])
    for layer in (layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)):
        torch.nn.init.kaiming_normal_(layer.weight)  # so that something arrives at the end
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def network(weights):
    return inception_from(weights)


@pytest.fixture(scope="module")
def images():
    return torch.randint(256, (3, 3, 20, 20), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_features_of_any_size_and_of_grey_images(network, images):
    features = network(images)
    assert features.shape == (3, network.dim)
    assert features.dtype == torch.float32
    assert (features.std(0) > 0).double().mean() > 0.5
    grey = images[:, :1]
    torch.testing.assert_close(network(grey), network(grey.repeat(1, 3, 1, 1)))


def test_a_row_depends_on_its_image_only(network, images):
    torch.testing.assert_close(network(images[1:2])[0], network(images)[1], rtol=1e-4, atol=1e-4)


def test_resizes_as_tensorflow_1_does(network, monkeypatch):
    """Pixel i of the result lies at i·(size/299) of the original, unlike in torch, where it is (i + ½)·(size/299) − ½."""
    seen = []
    monkeypatch.setattr(network.net.Conv2d_1a_3x3, "forward", lambda x: seen.append(x) or torch.zeros(len(x), 32, 149, 149))
    linear_warmup = torch.arange(0, 240, 4, dtype=torch.uint8).expand(1, 3, 60, 60)
    network(linear_warmup)
    places = (torch.arange(299) * (60 / 299)).clamp_max(59)
    torch.testing.assert_close(seen[0][0, 0, 0], (4 * places - 128) / 128, rtol=1e-4, atol=1e-4)


def test_identity_tells_unofficial_weights(network):
    identity = network.identity()
    assert {"name": "inception", "dim": 2048, "official": False}.items() <= identity.items()
    assert len(identity["sha256"]) == 64
    assert "TensorFlow 1" in identity["resize"]


def test_the_address_is_torch_fidelitys():
    assert pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3").URL_INCEPTION_V3 == URL


def test_loading_leaves_the_random_state_alone_and_freezes(weights):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    network = inception_from(weights)
    assert torch.equal(torch.rand(2), expected)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_only_uint8_images(network):
    with pytest.raises(ValueError, match="uint8"):
        network(torch.zeros(1, 3, 32, 32))


def test_missing_weights_are_one_sentence(tmp_path):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(ZooError, match=r"download https://.*6726825d\.pth .*features\.weights=FILE"):
        inception_from(None)
    with pytest.raises(ZooError, match=r"no file .*nowhere\.pth"):
        inception_from(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    "content", [b"text", {"fc.weight": torch.zeros(2, 2)}, {}, [1, 2], torch.zeros(3)], ids=["text", "shapes", "layers", "list", "tensor"]
)
def test_a_file_that_is_something_else_is_named(tmp_path, content):
    pytest.importorskip("torch_fidelity")
    path = tmp_path / "other.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ZooError, match=r"other\.pth is (damaged|not InceptionV3)"):
        inception_from(path)


def test_code_in_a_weights_file_is_not_run(tmp_path):
    pytest.importorskip("torch_fidelity")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"fc.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ZooError, match="refused"):
        inception_from(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_the_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setattr("zoo.features.inception.find_spec", lambda name: None)
    with pytest.raises(ZooError, match=r"pip install 'zoo\[inception\]'"):
        inception_from("weights.pth")


def test_weights_saved_by_an_old_torch_are_read(tmp_path):
    torch.save({"weight": torch.ones(3)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read(tmp_path / "old.pth", legacy=True)["weight"], torch.ones(3))
    with pytest.raises(ZooError, match="damaged"):
        read(tmp_path / "old.pth")
