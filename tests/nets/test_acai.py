import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.nets.acai import ACAIBackbone


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("channels", "width", "latent_width", "maps", "encoder", "decoder"),
    [
        pytest.param(1, 16, 2, 16, 627, 314, id="lines"),
        pytest.param(1, 16, 4, 2, 150, 75, id="mnist 32"),
        pytest.param(1, 16, 4, 16, 166, 83, id="mnist 256"),
        pytest.param(3, 64, 4, 2, 2370, 1190, id="svhn 32"),
        pytest.param(3, 64, 4, 16, 2430, 1220, id="svhn 256"),
        pytest.param(3, 64, 4, 64, 2660, 1330, id="cifar 1024"),
    ],
)
def test_the_published_sizes(channels, width, latent_width, maps, encoder, decoder):
    """Thousands of parameters for 32 pixels (methods 1.2), to the digits that are given there."""
    backbone = ACAIBackbone(32, channels, width, latent_width)
    features, unit = maps * latent_width**2, 1e3 if encoder < 1000 else 1e4
    assert round(parameters(backbone.encoder(features)) / unit) == encoder * 1e3 / unit
    assert round(parameters(backbone.decoder(features)) / unit) == decoder * 1e3 / unit


def test_the_layers_are_the_published_ones():
    """1×1 convolution, twice two 3×3 ones and average pooling, two more; no normalisation, nothing after the last (methods 1.2)."""
    backbone = ACAIBackbone(16, 1, width=4, latent_width=4)

    def described(net):
        names = {nn.LeakyReLU: "leaky", nn.AvgPool2d: "pool", nn.Upsample: "double", nn.Flatten: "flat", nn.Unflatten: "map"}
        convolutions = {nn.Conv2d: lambda layer: f"{layer.kernel_size[0]}×{layer.kernel_size[0]} {layer.in_channels}→{layer.out_channels}"}
        return [convolutions[type(layer)](layer) if type(layer) in convolutions else names[type(layer)] for layer in net]

    assert described(backbone.encoder(32)) == [
        "1×1 1→4", "3×3 4→4", "leaky", "3×3 4→4", "leaky", "pool", "3×3 4→8", "leaky", "3×3 8→8", "leaky", "pool",
        "3×3 8→16", "leaky", "3×3 16→2", "flat",
    ]  # fmt: skip
    assert described(backbone.decoder(32)) == [
        "map", "3×3 2→8", "leaky", "3×3 8→8", "leaky", "double", "3×3 8→4", "leaky", "3×3 4→4", "leaky", "double",
        "3×3 4→4", "leaky", "3×3 4→1",
    ]  # fmt: skip
    layers = [*backbone.encoder(32), *backbone.decoder(32)]
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert next(layer for layer in backbone.decoder(32) if isinstance(layer, nn.Upsample)).mode == "nearest"


def test_shapes_and_a_linear_output():
    backbone = ACAIBackbone(32, 3, width=8, latent_width=2)
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    code = backbone.encoder(12)(image)
    assert code.shape == (2, 12)
    decoder = backbone.decoder(12)
    output = decoder(1e5 * code)
    assert backbone.image_shape == output.shape[1:] == (3, 32, 32)
    assert output.abs().max() > 1
    assert torch.equal(decoder[0](code), code.view(2, 3, 2, 2))


def test_weights_start_with_the_published_deviation():
    """N(0, 1 / ((1 + 0.2²) · fan_in)), biases 0."""
    backbone = ACAIBackbone(32, 3, width=64, latent_width=4)
    convolutions = [layer for net in (backbone.encoder(256), backbone.decoder(256)) for layer in net if isinstance(layer, nn.Conv2d)]
    assert len(convolutions) == 17
    for layer in convolutions:
        fan_in = layer.in_channels * layer.kernel_size[0] ** 2
        normal = layer.weight * (1.04 * fan_in) ** 0.5
        count = normal.numel()
        assert abs(normal.std() - 1) < 4 / (2 * count) ** 0.5
        assert abs(normal.mean()) < 4 / count**0.5
        assert not layer.bias.any()
    biggest = max(convolutions, key=lambda layer: layer.weight.numel()).weight
    assert biggest.abs().max() > 4 * biggest.std()  # not uniform


def test_every_parameter_receives_a_gradient():
    backbone = ACAIBackbone(16, 1, width=4, latent_width=4)
    encoder, decoder = backbone.encoder(32), backbone.decoder(32)
    decoder(encoder(torch.randn(2, 1, 16, 16))).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for net in (encoder, decoder) for p in net.parameters())


@pytest.mark.parametrize(("size", "latent_width"), [(32, 3), (32, 32), (32, 64), (32, 0), (48, 4), (28, 4), (32, -4)])
def test_a_latent_width_that_halving_does_not_lead_to_is_refused(size, latent_width):
    with pytest.raises(ZooError, match=f"latent_width is {latent_width}, .*{size} pixels.*data.image_size"):
        ACAIBackbone(size, 1, latent_width=latent_width)


@pytest.mark.parametrize("size", [28, 48])
def test_sizes_that_are_no_powers_of_two_have_latent_widths_of_their_own(size):
    backbone = ACAIBackbone(size, 1, width=4, latent_width=size // 4)
    assert backbone.decoder(size**2 // 16)(backbone.encoder(size**2 // 16)(torch.zeros(1, 1, size, size))).shape == (1, 1, size, size)


@pytest.mark.parametrize("features", [30, 33, 15])
def test_a_code_that_fills_no_map_is_refused(features):
    backbone = ACAIBackbone(32, 1, latent_width=4)
    for make in (backbone.encoder, backbone.decoder):
        with pytest.raises(ZooError, match=f"latent_dim is {features}; .* multiple of 16"):
            make(features)
