"""zoo: trains and compares autoencoder-family generative models.

import zoo
model = zoo.load("runs/2026-11-20/10-00-00-vae-faces")
images = model.sample(16)                                # (16, 3, 64, 64) in [-1, 1]
model = zoo.models.VAE(image_size=32, channels=1, latent_dim=8)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

EXPORTS = {"load": "zoo.runs.load", "DataModule": "zoo.data.module"}  # name -> the module that is imported when it is first asked for


def __getattr__(name: str) -> Any:
    if name == "models":
        return import_module("zoo.models")
    if name not in EXPORTS:
        raise AttributeError(f"module 'zoo' has no attribute '{name}'")
    return getattr(import_module(EXPORTS[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *EXPORTS, "models"]
