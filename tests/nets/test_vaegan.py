import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.nets.discriminator import Discriminator, call_with_detached_params
from zoo.nets.vaegan import VAEGANBackbone


def parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.fixture(scope="module")
def backbone() -> VAEGANBackbone:
    torch.manual_seed(0)
    return VAEGANBackbone(64, 3)


@pytest.fixture(scope="module")
def discriminator(backbone) -> Discriminator:
    return backbone.discriminator(4)


@pytest.fixture
def small() -> Discriminator:
    """Two convolutions in float64; the first one's features are taken."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1, bias=False)]
    after = [nn.Sequential(nn.ReLU()), nn.Sequential(nn.BatchNorm2d(6), nn.ReLU())]
    return Discriminator(convolutions, after, nn.Sequential(nn.Flatten(), nn.Linear(24, 1)), feature_layer=1).double()


def test_the_published_sizes(backbone, discriminator):
    """Latent 128, so 256 outputs of the encoder (methods 5.2)."""
    assert parameters(backbone.encoder(256)) == pytest.approx(18.1e6, rel=0.02)
    assert parameters(backbone.decoder(128)) == pytest.approx(4.7e6, rel=0.02)
    assert parameters(discriminator) == pytest.approx(11.0e6, rel=0.02)


def test_shapes_and_range(backbone, discriminator):
    image = torch.rand(2, 3, 64, 64) * 2 - 1
    latent = backbone.encoder(5)(image)
    output = backbone.decoder(5)(latent)
    assert latent.shape == (2, 5)
    assert backbone.image_shape == output.shape[1:] == (3, 64, 64)
    assert output.abs().max() <= 1
    assert output.min() < 0 < output.max()
    logits, features = discriminator(output)
    assert logits.shape == (2,)
    assert features.shape == (2, 256 * 8 * 8)


@pytest.mark.parametrize(("layer", "features"), [(1, 32 * 64 * 64), (2, 128 * 32 * 32), (3, 256 * 16 * 16)])
def test_the_feature_layer_is_chosen_by_number(backbone, layer, features):
    assert backbone.discriminator(layer)(torch.randn(2, 3, 64, 64))[1].shape == (2, features)


@pytest.mark.parametrize("layer", [0, 5, -5])
def test_a_feature_layer_out_of_range_is_refused(backbone, layer):
    with pytest.raises(ZooError, match=f"feature_layer is {layer}.* from 1 to 4"):
        backbone.discriminator(layer)


def test_other_sizes_are_refused():
    with pytest.raises(ZooError, match="64 pixels, not 128"):
        VAEGANBackbone(128, 3)


def test_weights_start_within_the_published_bounds(backbone):
    """U(±b), b = 1/√(3·fan_in): the largest of many draws comes close to b, their variance to b²/3."""
    layers = [m for m in backbone.decoder(128).modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) == 5
    for layer in layers:
        bound = (3 * layer.weight[0].numel()) ** -0.5
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.1)


def test_features_are_those_before_normalisation_and_activation(small):
    image = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    weight, bias = small.blocks[0][0].weight, small.blocks[0][0].bias
    logits, features = small(image)
    torch.testing.assert_close(features, F.conv2d(image, weight, bias, 2, 1).flatten(1), rtol=1e-12, atol=1e-12)
    assert (features < 0).any()  # no activation
    second = F.conv2d(F.conv2d(image, weight, bias, 2, 1).relu(), small.blocks[1][0].weight, None, 2, 1)
    small.feature_layer = 2
    torch.testing.assert_close(small(image)[1], second.flatten(1), rtol=1e-12, atol=1e-12)
    normal = (second - second.mean((0, 2, 3), keepdim=True)) / (second.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(logits, small.head(normal.relu())[:, 0], rtol=1e-9, atol=1e-9)


def test_every_parameter_receives_a_gradient(backbone, discriminator):
    encoder, decoder = backbone.encoder(8), backbone.decoder(8)
    logits, features = discriminator(decoder(encoder(torch.randn(3, 3, 64, 64))))
    (logits.square().sum() + features.square().mean()).backward()
    for net in (encoder, decoder, discriminator):
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    discriminator.zero_grad()


def objective(net: Discriminator, image: torch.Tensor) -> torch.Tensor:
    """A loss with a judging call and a training call, as models make them."""
    logits, features = call_with_detached_params(net, image)
    own, _ = net(image.detach())
    return (logits - 1).square().mean() + features.square().mean() + own.square().mean()


def test_a_judging_call_moves_nothing(small):
    image = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    before = {name: buffer.clone() for name, buffer in small.named_buffers()}
    logits, features = call_with_detached_params(small, image)
    (logits.sum() + features.square().sum()).backward()
    assert image.grad.abs().max() > 0
    assert all(p.grad is None for p in small.parameters())
    assert before  # it has BatchNorm
    assert all(torch.equal(before[name], buffer) for name, buffer in small.named_buffers())


def test_it_compiles_as_one_graph(small):
    image = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    inputs = [image, *small.parameters()]
    eager = torch.autograd.grad(objective(small, image), inputs)
    compiled = torch.autograd.grad(torch.compile(objective, fullgraph=True, backend="aot_eager")(small, image), inputs)
    for ours, theirs in zip(compiled, eager, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
