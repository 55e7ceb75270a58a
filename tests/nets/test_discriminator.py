import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.nets.conv import ConvBackbone
from zoo.nets.discriminator import Discriminator, code_discriminator, discriminate_frozen


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def discriminator(feature_layer: int = 2, batchnorm: bool = False) -> Discriminator:
    convolutions = [nn.Conv2d(1, 4, 4, 2, 1), nn.Conv2d(4, 6, 4, 2, 1)]
    after = [nn.Sequential(nn.BatchNorm2d(conv.out_channels) if batchnorm else nn.Identity(), nn.LeakyReLU(0.2)) for conv in convolutions]
    return Discriminator(convolutions, after, nn.Sequential(nn.Flatten(), nn.Linear(24, 1)), feature_layer).double()


def images(count: int = 4, size: int = 8) -> torch.Tensor:
    return torch.randn(count, 1, size, size, dtype=torch.float64)


@pytest.mark.parametrize("feature_layer", [1, 2])
def test_logits_are_the_heads_and_features_those_of_the_layer(feature_layer):
    net, image = discriminator(feature_layer, batchnorm=True).eval(), images()
    first = net.blocks[0][0](image)
    second = net.blocks[1][0](net.blocks[0][1](first))
    logits, features = net(image)
    torch.testing.assert_close(logits, net.head(net.blocks[1][1](second))[:, 0])
    assert logits.shape == (4,)
    torch.testing.assert_close(features, (first, second)[feature_layer - 1].flatten(1))  # before normalisation and activation
    assert features.min() < 0


def test_layers_count_backwards_too():
    image = images()
    torch.manual_seed(0)
    last = discriminator(-1)
    torch.manual_seed(0)
    assert torch.equal(last(image)[1], discriminator(2)(image)[1])


@pytest.mark.parametrize("feature_layer", [0, 3, 9, -3])
def test_a_layer_that_is_not_there_is_refused(feature_layer):
    with pytest.raises(ZooError, match=f"feature_layer is {feature_layer}, .*2 convolutions; .*from 1 to 2"):
        discriminator(feature_layer)


@pytest.mark.parametrize(("size", "layer", "features"), [(28, 2, 16 * 49), (32, 1, 16 * 256), (64, 3, 16 * 64), (96, -1, 16 * 36)])
def test_the_shared_backbones_discriminator(size, layer, features):
    net = ConvBackbone(size, 3, width=16, max_width=16).discriminator(layer)
    logits, found = net(torch.randn(2, 3, size, size))
    assert logits.shape == (2,)
    assert found.shape == (2, features)


@pytest.mark.parametrize("norm", ["none", "group"])
def test_the_shared_backbones_features_have_a_scale_and_images_stay_apart(norm):
    net = ConvBackbone(32, 1, width=16, norm=norm).discriminator(3).double()
    image = images(4, 32)
    logits, features = net(image)
    torch.testing.assert_close(net(image[:1])[0], logits[:1], rtol=1e-12, atol=1e-12)
    louder = ConvBackbone(32, 1, width=16, norm=norm).discriminator(3).double()
    louder.load_state_dict(net.state_dict())
    louder.blocks[1][0].weight.data.mul_(100)
    louder.blocks[1][0].bias.data.mul_(100)
    torch.testing.assert_close(louder(image)[1], features, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("batchnorm", [False, True])
def test_discriminate_frozen_is_the_discriminator_as_a_constant(batchnorm):
    net, real = discriminator(batchnorm=batchnorm), images()
    fake = images().requires_grad_()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    logits, features = discriminate_frozen(net, real, fake)
    logits.sum().backward(retain_graph=True)
    features.square().sum().backward()
    assert fake.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    plain_logits, plain_features = net(torch.cat([real, fake]))  # one batch
    assert len(logits) == (8 if batchnorm else 4)  # with BatchNorm the real ones come first
    torch.testing.assert_close(logits, plain_logits[-len(logits) :], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(features, plain_features[-len(logits) :], rtol=1e-12, atol=1e-12)


def test_the_published_discriminator_of_codes():
    """Linear to 512, leaky ReLU of slope 0.2, linear to 1 (methods 2.2); 1.00 million parameters for 1,948 features."""
    net, code = code_discriminator(1948), torch.randn(3, 1948)
    assert round(sum(p.numel() for p in net.parameters()) / 1e4) == 100
    first, last = (layer for layer in net if isinstance(layer, nn.Linear))
    hidden = first(code)
    expected = torch.where(hidden > 0, hidden, 0.2 * hidden) @ last.weight[0] + last.bias
    torch.testing.assert_close(net(code), expected)
    assert net(code).shape == (3,)
