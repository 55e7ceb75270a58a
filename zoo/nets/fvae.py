"""The encoder E and the decoder G of f-VAE (Su & Wu 2018, 1809.05861, and its code): residual nets between images and codes of one size.

    E   `squeezes` times: Squeeze 2×2 (C, H, W -> 4C, H/2, W/2), then `blocks` times x + Conv1×1(ReLU(norm(Conv3×3(x))))
    G   the mirror: blocks, then UnSqueeze, and tanh at the end

The last convolution of each block starts at zero: E begins as a reordering of the pixels, G as tanh of its inverse. Neither has to be
invertible, as the code's noise enters after E. Published: 3 squeezes, 12 blocks, as many channels inside a block as outside, BatchNorm.
"""

from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.nets import conv
from zoo.nets.described import Described
from zoo.nets.flows import Flow


class FVAEBackbone(Described):
    """Makes E and G for one image shape. With squeezes=0 and output=linear both are the identity.

    Args:
        image_size, channels: Height and width in pixels, a multiple of 2^squeezes; 1 or 3 channels.
        squeezes: Times the image is halved.
        blocks: Residual blocks at each size.
        width: Channels inside a block; None = as many as outside.
        norm: "none", "group" or "batch".
        output: "tanh" (exactly [-1, 1]) or "linear".
    """

    def __init__(
        self, image_size: int, channels: int, squeezes: int, blocks: int, width: int | None = None, norm: str = "none", output: str = "tanh"
    ) -> None:
        if squeezes > 0 and image_size % 2**squeezes:
            raise ZooError(
                f"model.backbone.squeezes={squeezes} halves the image so often, but {image_size} pixels are no multiple of {2**squeezes}; "
                f"lower model.backbone.squeezes or change data.image_size."
            )
        conv.output_layer(output)  # refuses a sigmoid
        if norm not in ("none", "group", "batch"):
            raise ZooError(f"model.backbone.norm is '{norm}'; it must be 'none', 'group' or 'batch'.")
        if min(squeezes, blocks) < 0 or (width is not None and width < 1):
            raise ZooError(
                f"model.backbone.squeezes={squeezes} and model.backbone.blocks={blocks} must be at least 0, "
                f"and model.backbone.width={width} at least 1 or null."
            )
        self.image_shape = (channels, image_size, image_size)
        self.widths = [channels * 4**level for level in range(1, squeezes + 1)]  # outside the blocks
        self.code_shape = (channels * 4**squeezes, image_size // 2**squeezes, image_size // 2**squeezes)
        self.blocks, self.width, self.norm, self.output = blocks, width, norm, output

    def encoder(self) -> nn.Module:
        """E: (B, C, H, W) -> (B, *code_shape)."""
        return nn.Sequential(*(nn.Sequential(nn.PixelUnshuffle(2), *self._blocks(channels)) for channels in self.widths))

    def decoder(self) -> nn.Module:
        """G: (B, *code_shape) -> (B, C, H, W)."""
        levels = [nn.Sequential(*self._blocks(channels), nn.PixelShuffle(2)) for channels in reversed(self.widths)]
        return nn.Sequential(*levels, conv.output_layer(self.output))

    def _blocks(self, channels: int) -> list[nn.Module]:
        return [Block(channels, self.width or channels, self.norm) for _ in range(self.blocks)]


class Block(nn.Module):
    """x + Conv1×1(ReLU(norm(Conv3×3(x)))), the identity at first: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, width: int, norm: str) -> None:
        super().__init__()
        last = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        normalised = nn.BatchNorm2d(width) if norm == "batch" else conv.norm(norm, width)
        self.branch = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), normalised, nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Identity(Flow):
    """The flow that does nothing but flatten: with it f-VAE is a VAE. (B, C, H, W) <-> (B, C·H·W), log_det 0."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        return z.unflatten(1, self.shape)
