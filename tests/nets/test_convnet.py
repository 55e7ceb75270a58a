import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.nets.convnet import ConvClassifier


@pytest.fixture
def trained():
    """A network whose BatchNorm has seen something, and images."""
    torch.manual_seed(0)
    net = ConvClassifier(3, 5)
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
    net.train()
    with torch.no_grad():
        for _ in range(20):
            net(3 * torch.randn(16, 3, 32, 32) + 1)
    return net.eval(), torch.rand(7, 3, 32, 32) * 2 - 1


def test_fusing_changes_nothing_but_the_layers(trained):
    net, images = trained
    fused = net.fused()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    torch.testing.assert_close(fused(images), net(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.means(images), net.means(images), rtol=1e-4, atol=1e-5)
    assert net(images).std(0).min() > 1e-3  # the images differ to it, so equality says something


def test_a_row_depends_on_its_image_only(trained):
    fused, images = trained[0].fused(), trained[1]
    alone = torch.cat([fused(image[None]) for image in images])
    torch.testing.assert_close(fused(images), alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused.means(images), torch.cat([fused.means(image[None]) for image in images]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (28, 1), (40, 3), (64, 3), (128, 3)])
def test_each_stage_halves_the_image(size, channels):
    net = ConvClassifier(channels, 10).eval()
    images = torch.randn(2, channels, size, size)
    sides = [found.shape[-1] for found in net.maps(images)]
    assert sides == [-(-size // 2**stage) for stage in (1, 2, 3, 4)]
    assert all((found >= 0).all() for found in net.maps(images))
    assert net(images).shape == (2, 10)
    widths = [found.shape[1] for found in net.maps(images)]
    first, last = net.means(images).split([widths[0], widths[-1]], 1)
    torch.testing.assert_close(first, net.maps(images)[0].mean((2, 3)))
    torch.testing.assert_close(last, net.maps(images)[-1].mean((2, 3)))


def test_the_answer_depends_on_the_fields_means_and_on_where_they_are():
    net = ConvClassifier(1, 4).eval()
    last = torch.rand(2, 128, 4, 4)
    fields = last.view(2, 128, 2, 2, 2, 2).mean((3, 5))  # (B, 128, 2, 2)
    torch.testing.assert_close(net.logits(last), net.logits(fields))
    assert (net.logits(last) - net.logits(last.flip(3))).abs().min() > 1e-4


def test_it_is_small():
    assert sum(parameter.numel() for parameter in ConvClassifier(3, 40).parameters()) <= 450_000


def test_it_refuses_what_it_was_not_made_for():
    net = ConvClassifier(3, 4)
    for shape in [(2, 1, 32, 32), (2, 3, 32, 28), (3, 32, 32)]:
        with pytest.raises(ValueError, match="square images"):
            net(torch.zeros(shape))
    with pytest.raises(ZooError, match="8 pixels are too small"):
        net(torch.zeros(2, 3, 8, 8))
