import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.nets.conv import ConvBackbone, halvings


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3), (64, 3), (128, 1), (256, 3)])
def test_sizes_and_channels(size, channels):
    backbone = ConvBackbone(size, channels, width=16, max_width=32)
    image = torch.randn(2, channels, size, size)
    latent = backbone.encoder(10)(image)
    output = backbone.decoder(10)(latent)
    assert latent.shape == (2, 10)
    assert output.shape == image.shape
    assert output.min() >= -1
    assert output.max() <= 1


def test_every_parameter_receives_a_gradient():
    backbone = ConvBackbone(32, 3, width=16)
    encoder, decoder = backbone.encoder(4), backbone.decoder(4)
    decoder(encoder(torch.randn(2, 3, 32, 32))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for net in (encoder, decoder) for p in net.parameters())


def test_an_image_does_not_depend_on_its_neighbours_in_the_batch():
    torch.manual_seed(0)
    encoder = ConvBackbone(32, 3, width=16).encoder(4).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), rtol=1e-12, atol=1e-12)


def test_the_tanh_reaches_the_whole_range_and_linear_goes_beyond():
    far = 1000 * torch.randn(64, 4)
    bounded = ConvBackbone(32, 1, width=16, norm="none").decoder(4)(far)
    free = ConvBackbone(32, 1, width=16, norm="none", output="linear").decoder(4)(far)
    assert bounded.min() < -0.95
    assert bounded.max() > 0.95
    assert free.abs().max() > 1


@pytest.mark.parametrize("size", [50, 30, 9, 4, 7, 100])
def test_sizes_it_cannot_make_are_refused(size):
    with pytest.raises(ZooError, match=f"{size} pixels"):
        halvings(size)


def test_groups_divide_a_width_that_is_no_multiple_of_16():
    backbone = ConvBackbone(32, 1, width=112, max_width=100, norm="group")
    assert [layer.num_groups for layer in backbone.encoder(4).modules() if isinstance(layer, nn.GroupNorm)] == [2, 2]
    assert backbone.discriminator(1)(torch.zeros(1, 1, 32, 32))[0].shape == (1,)
    assert ConvBackbone(32, 1, width=112, norm="group").attribute_encoder(4)(torch.zeros(1, 1, 32, 32)).shape == (1, 4)


@pytest.mark.parametrize("options", [{"output": "sigmoid"}, {"width": 20}, {"norm": "batch"}, {"max_width": 0}])
def test_bad_options_are_refused(options):
    with pytest.raises(ZooError):
        ConvBackbone(32, 3, **options).encoder(4)
