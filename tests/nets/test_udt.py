import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.nets.discriminator import code_discriminator
from zoo.nets.udt import UDTBackbone


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_published_sizes():
    """487 of the 512 maps of 2×2 pixels are content, 25 attributes (methods 2.2)."""
    backbone = UDTBackbone(128, 3)
    assert parameters(backbone.encoder(487 * 4)) == pytest.approx(6.48e6, rel=0.01)
    assert parameters(backbone.attribute_encoder(25 * 4)) == pytest.approx(0.74e6, rel=0.01)
    assert parameters(backbone.decoder(512 * 4)) == pytest.approx(6.98e6, rel=0.01)
    assert parameters(code_discriminator(487 * 4)) == pytest.approx(1.00e6, rel=0.01)


@pytest.mark.parametrize(
    ("size", "content", "attribute", "decoder"),
    [
        (64, [32, 64, 128, 256, 12], [32, 64, 128, 128, 3], [256, 128, 64, 32, 3]),
        (128, [32, 64, 128, 256, 12, 12], [32, 64, 128, 128, 128, 3], [512, 256, 128, 64, 32, 3]),
    ],
)
def test_the_widths(size, content, attribute, decoder):
    def widths(net):
        return [layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]

    backbone = UDTBackbone(size, 3)
    assert widths(backbone.encoder(48)) == content
    assert widths(backbone.attribute_encoder(12)) == attribute
    assert widths(backbone.decoder(60)) == decoder


@pytest.mark.parametrize(("size", "channels", "pixels"), [(64, 3, 4), (96, 1, 9), (128, 1, 4), (192, 3, 9), (256, 1, 16)])
def test_shapes_and_range(size, channels, pixels):
    backbone = UDTBackbone(size, channels, width=4)
    image = torch.rand(2, channels, size, size) * 2 - 1
    content, attribute = backbone.encoder(6 * pixels)(image), backbone.attribute_encoder(2 * pixels)(image)
    output = backbone.decoder(8 * pixels)(torch.cat([content, attribute], 1))
    assert backbone.image_shape == image.shape[1:] == output.shape[1:]
    assert content.shape == (2, 6 * pixels)
    assert attribute.shape == (2, 2 * pixels)
    assert output.abs().max() <= 1
    assert output.min() < 0 < output.max()
    assert code_discriminator(6 * pixels)(content).shape == (2,)


def test_a_flat_code_is_the_published_concatenation_of_maps():
    backbone = UDTBackbone(64, 3, width=4)
    content, attribute = torch.randn(2, 5, 2, 2), torch.randn(2, 3, 2, 2)
    flat = torch.cat([content.flatten(1), attribute.flatten(1)], 1)
    decoder = backbone.decoder(32)
    assert torch.equal(decoder[0](flat), torch.cat([content, attribute], 1))
    encoder = backbone.encoder(20)
    image = torch.randn(2, 3, 64, 64)
    assert torch.equal(encoder(image).unflatten(1, (5, 2, 2)), encoder[:-1](image))


def test_the_code_is_normalised_within_each_map():
    """The activation's inverse has mean 0 and variance 1 in every map, so a code's magnitude is fixed."""
    encoder = UDTBackbone(128, 3, width=4).encoder(32).double()
    code = encoder(torch.randn(3, 3, 128, 128, dtype=torch.float64)).unflatten(1, (8, 4))
    normal = torch.where(code < 0, code / 0.2, code)
    torch.testing.assert_close(normal.mean(2), torch.zeros(3, 8, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(normal.var(2, correction=0), torch.ones(3, 8, dtype=torch.float64), rtol=0, atol=0.05)


def test_an_image_does_not_depend_on_its_neighbours_in_the_batch():
    encoder = UDTBackbone(64, 3, width=4).encoder(16).double()
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), rtol=1e-12, atol=1e-12)
    decoder = UDTBackbone(64, 3, width=4).decoder(16).double()
    codes = torch.randn(4, 16, dtype=torch.float64)
    torch.testing.assert_close(decoder(codes)[:1], decoder(codes[:1]), rtol=1e-12, atol=1e-12)


def test_every_parameter_receives_a_gradient():
    backbone = UDTBackbone(64, 3, width=4)
    encoder, attribute, decoder, discriminate_frozen = (
        backbone.encoder(24), backbone.attribute_encoder(8), backbone.decoder(32), code_discriminator(24),
    )  # fmt: skip
    image = torch.randn(2, 3, 64, 64)
    content = encoder(image)
    output = decoder(torch.cat([content, attribute(image)], 1))
    (output.square().sum() + discriminate_frozen(content).square().sum()).backward()
    for net in (encoder, attribute, decoder, discriminate_frozen):
        assert all(p.grad is not None and p.grad.abs().max() > 1e-6 for p in net.parameters())


@pytest.mark.parametrize("size", [28, 32, 63, 80, 100, 130, 160])
def test_sizes_it_cannot_make_are_refused(size):
    with pytest.raises(ZooError, match=f"cannot make images of {size} pixels"):
        UDTBackbone(size, 3)


@pytest.mark.parametrize(("features", "nearest"), [(25, "24 or 28"), (1, "multiple of 4: 4"), (1950, "1948 or 1952")])
def test_codes_that_fill_no_map_are_refused_with_the_nearest_that_do(features, nearest):
    backbone = UDTBackbone(128, 3)
    for make in (backbone.encoder, backbone.attribute_encoder, backbone.decoder):
        with pytest.raises(ZooError, match=nearest):
            make(features)
