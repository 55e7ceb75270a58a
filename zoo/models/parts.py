"""What a model is made of: as objects, by name, or as a checkpoint's hyperparameters describe them."""

from collections.abc import Mapping
from typing import Any

from zoo.config.instantiate import build
from zoo.errors import ZooError
from zoo.nets.conv import ConvBackbone
from zoo.nets.described import GIVE_AGAIN


def built(part: Any, name: str) -> Any:
    """An argument called `name`: an object as it is, or made from its description (zoo.nets.described). Raises ZooError."""
    if isinstance(part, Mapping) and GIVE_AGAIN in part:
        raise ZooError(f"{name} was a {part[GIVE_AGAIN]}, which cannot be made from the checkpoint alone; give it again as {name}=….")
    return build(part) if isinstance(part, Mapping) and "_target_" in part else part


def backbone_of(backbone: Any, image_size: int | None, channels: int | None) -> Any:
    """The backbone of a model: "conv" for the shared one, in the size that is given, or an object, whose size must then be that one.

    Raises ZooError for another name, a missing size, or sizes that differ.
    """
    backbone = built(backbone, "backbone")
    if isinstance(backbone, str):
        if backbone != "conv" or image_size is None:
            raise ZooError(
                f"backbone={backbone!r} with image_size={image_size}: give backbone='conv' and a size, or a backbone of zoo.nets."
            )
        return ConvBackbone(image_size, 3 if channels is None else channels)
    own_channels, own_size, _ = backbone.image_shape
    if image_size not in (None, own_size) or channels not in (None, own_channels):
        raise ZooError(
            f"The backbone is for {own_channels}×{own_size}×{own_size} images, not for image_size={image_size} and channels={channels}; "
            "leave these out, or make them alike."
        )
    return backbone
