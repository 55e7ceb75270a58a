"""InceptionV3 as features network: numbers that can be put beside the literature's. It is neither shipped nor downloaded.

Network, weights and resize are the original FID's (Heusel et al. 2017, 1706.08500), as torch-fidelity ports them from TensorFlow 1.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.features.base import Features
from zoo.features.cache import read
from zoo.files import sha256_of

URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
OFFICIAL = "6726825d"  # the first digits of its sha256


class Inception(Features):
    """The pool before InceptionV3's last layer: (B, 2048). Images are resized to 299×299, grey ones repeated in three channels."""

    name = "inception"
    dim = 2048

    def __init__(self, net: nn.Module, sha256: str) -> None:
        """`net` gives a tuple with the features (B, 2048) of RGB images in uint8; `sha256` is its file's."""
        super().__init__()
        self.net, self.sha256 = net, sha256
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        if image.dtype != torch.uint8:
            raise ValueError(f"a features network takes uint8 images, not {image.dtype}")
        return self.net(image.expand(-1, 3, -1, -1))[0]

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dim": self.dim,
            "sha256": self.sha256,
            "official": self.sha256.startswith(OFFICIAL),
            "resize": "bilinear to 299 as TensorFlow 1, not antialiased",
            "implementation": f"torch-fidelity {version('torch-fidelity')}",
        }


def inception_from(weights: str | Path | None, device: torch.device | str = "cpu") -> Inception:
    """A network with this file's weights, official or not. Raises ZooError: the package or file is missing, or holds other things."""
    if find_spec("torch_fidelity") is None:
        raise ZooError("features=inception needs the package torch-fidelity: install it with pip install 'zoo[inception]'.")
    if weights is None:
        raise ZooError(f"features=inception needs its weights: download {URL} and name the file with features.weights=FILE.")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = Path(str(weights))
    if not path.is_file():
        raise ZooError(f"There is no file features.weights={path}: download {URL} and name it.")
    read(path, legacy=True)  # torch-fidelity would run any code in the file; this refuses it
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights before it loads some
            net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(path))
    except (RuntimeError, TypeError, AttributeError):  # other layers, other shapes, not a state dict
        raise ZooError(f"features.weights={path} is not InceptionV3 as torch-fidelity has it: download {URL}.") from None
    return Inception(net, sha256_of(path)).to(device)
