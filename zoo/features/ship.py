"""Makes the files that ship in zoo/features/weights: the classifiers of the embedded faces at 64 and 32 pixels.

    python -m zoo.features.ship [SIZE …]         # about 8 minutes of one core; only when the faces or the network change

The faces are the default ones: 20,000 to train on, 10,000 to measure on, seed 0. Packed stores go where $ZOO_CACHE says.
"""

import os
import sys
from pathlib import Path

import torch

from zoo.data.faces.dataset import Faces
from zoo.data.store import prepare
from zoo.features.cache import write
from zoo.features.classifier import SHIPPED, Classifier, ClassifierTrainingConfig, trained

SIZES = (64, 32)
CONFIG = ClassifierTrainingConfig()  # as any data set's


def ship(size: int, cache: Path, folder: Path = SHIPPED, config: ClassifierTrainingConfig = CONFIG) -> Path:
    """Trains the classifier of faces of this size and writes it into the folder; returns the file."""
    path = folder / f"faces-{size}.pt"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    content = trained(prepare(Faces(size), cache), config, device)
    write(content, path)
    print(f"{path}: {path.stat().st_size:,} bytes, {Classifier(content).identity()}")
    return path


if __name__ == "__main__":
    for size in map(int, sys.argv[1:] or SIZES):
        ship(size, Path(os.environ.get("ZOO_CACHE") or "~/.cache/zoo").expanduser())
