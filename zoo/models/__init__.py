"""The methods, by name: `zoo.models.VAE(image_size=32, channels=1, latent_dim=8)`. Each is imported when it is first asked for."""

from importlib import import_module
from typing import Any

METHODS = {
    "AE": "ae",
    "VAE": "vae",
    "VAEGAN": "vaegan",
    "GAN": "gan",
    "ACAI": "acai",
    "UDT": "udt",
    "Glow": "glow",
    "FVAE": "fvae",
    "TwoStage": "two_stage",
    "CrossAE": "cross_ae",
    "LTAE": "ltae",
    "Autoencoder": "base",
}


def __getattr__(name: str) -> Any:
    if name not in METHODS:
        raise AttributeError(f"module 'zoo.models' has no attribute '{name}'")
    return getattr(import_module(f"zoo.models.{METHODS[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *METHODS]
