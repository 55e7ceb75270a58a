"""zoo: trains and compares autoencoder-family generative models.

import zoo
model = zoo.load("runs/2026-11-20/10-00-00-vae-faces")
images = model.sample(16)                                # (16, 3, 64, 64) in [-1, 1]
"""

from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def load(run_or_checkpoint: str | Path, device: str = "cpu") -> Any:
    """A trained model in eval mode, with averaged weights if averaging was on.

    Args:
        run_or_checkpoint: A run's folder (its newest good checkpoint is taken) or a .ckpt file.
        device: Where to put it.

    Raises:
        ZooError: There is no checkpoint, or it is damaged, holds code, or does not fit its own configuration.
    """
    from zoo.runs.load import load_model

    return load_model(Path(run_or_checkpoint), device)
