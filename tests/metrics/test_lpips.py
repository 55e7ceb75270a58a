import pytest
import torch
import torchvision

from zoo.metrics.images import lpips_file, lpips_network


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """torch's cache in an empty folder."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    return tmp_path


def test_without_its_weights_nothing_is_measured_and_nothing_downloaded(hub):
    assert lpips_network(torch.device("cpu")) is None
    assert not list(hub.iterdir())


@pytest.mark.slow  # writes 240 MB
def test_with_weights_at_hand_equal_images_are_at_distance_zero_and_others_are_not(hub):
    torch.manual_seed(0)
    lpips_file().parent.mkdir(parents=True)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), lpips_file())  # random: the real file is not at hand
    distance = lpips_network(torch.device("cpu"))
    for channels in (1, 3):
        image = torch.rand(4, channels, 64, 64) * 2 - 1
        with torch.no_grad():
            same, near, far = (distance(image, image + noise * torch.randn_like(image)) for noise in (0, 0.1, 0.5))
        assert same.shape == (4,)
        assert same.tolist() == [0] * 4
        assert (near > 0).all()
        assert (near < far).all()
