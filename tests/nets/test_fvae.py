import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.nets.fvae import FVAEBackbone, Identity

PUBLISHED = {"squeezes": 3, "blocks": 12, "norm": "batch"}


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_the_published_nets_have_the_published_sizes():
    backbone = FVAEBackbone(128, 3, **PUBLISHED)
    assert backbone.code_shape == (192, 16, 16)
    assert round(parameters(backbone.encoder()) / 1e6, 2) == 4.73
    assert round(parameters(backbone.decoder()) / 1e6, 2) == 4.73


@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_at_first_e_moves_pixels_into_channels_and_g_moves_them_back(norm):
    backbone = FVAEBackbone(8, 3, squeezes=2, blocks=1, norm=norm)
    x = torch.rand(2, 3, 8, 8) * 2 - 1
    code = backbone.encoder()(x)
    assert code.shape == (2, *backbone.code_shape) == (2, 48, 2, 2)
    channel, row, column = 1, 5, 3  # of one pixel: rows and columns 4a + 2b + c have the last bit in the last squeeze's block
    place = (channel * 4 + 2 * (row % 2) + column % 2) * 4 + 2 * (row // 2 % 2) + column // 2 % 2
    torch.testing.assert_close(code[:, place, row // 4, column // 4], x[:, channel, row, column])
    torch.testing.assert_close(backbone.decoder()(code), x.tanh())


def test_without_squeezes_and_with_a_linear_output_both_are_the_identity():
    backbone, x = FVAEBackbone(6, 3, squeezes=0, blocks=4, output="linear"), torch.randn(2, 3, 6, 6)
    assert torch.equal(backbone.encoder()(x), x)
    assert torch.equal(backbone.decoder()(x), x)


def test_a_block_is_what_the_paper_writes():
    torch.manual_seed(0)
    backbone = FVAEBackbone(4, 1, squeezes=1, blocks=1, width=16, norm="group")
    _, block = backbone.encoder()[0]
    first, norm, _, last = block.branch
    nn.init.normal_(last.weight)
    x = torch.randn(2, 4, 2, 2)
    hidden = nn.functional.conv2d(x, first.weight, first.bias, padding=1)
    mean, variance = hidden.flatten(1).mean(1), hidden.flatten(1).var(1, correction=0)  # 16 channels are one group
    hidden = (hidden - mean[:, None, None, None]) / (variance + norm.eps).sqrt()[:, None, None, None]
    expected = x + torch.einsum("oi,bihw->bohw", last.weight[:, :, 0, 0], hidden.clamp(min=0))
    torch.testing.assert_close(block(x), expected)


def test_the_identity_as_a_flow():
    flow, x = Identity((4, 2, 3)), torch.randn(5, 4, 2, 3)
    z, log_det = flow(x)
    assert torch.equal(z, x.reshape(5, 24))
    assert torch.equal(log_det, torch.zeros(5))
    assert torch.equal(flow.inverse(z), x)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"image_size": 28, "squeezes": 3}, "28 pixels are no multiple of 8"),
        ({"norm": "layer"}, r"model\.backbone\.norm is 'layer'"),
        ({"output": "sigmoid"}, "'tanh' or 'linear'"),
        ({"blocks": -1}, "at least 0"),
        ({"squeezes": -1}, "at least 0"),
        ({"width": 0}, "at least 1 or null"),
    ],
)
def test_bad_settings_are_refused(options, sentence):
    with pytest.raises(ZooError, match=sentence):
        FVAEBackbone(**{"image_size": 32, "channels": 3, "squeezes": 2, "blocks": 1} | options)
