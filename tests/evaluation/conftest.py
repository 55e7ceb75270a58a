import pytest
import torch

from tests.evaluation.numbers import evaluate
from zoo.data.faces.dataset import Faces
from zoo.data.store import Store, prepare
from zoo.evaluation.context import EvalContext
from zoo.features.classifier import classifier_of
from zoo.models.vae import VAE
from zoo.nets.conv import ConvBackbone


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Store:
    """640 small faces: 400 to train on, 40 to validate, 200 to test."""
    return prepare(Faces(image_size=32, train=400, val=40, test=200), tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="session")
def context(faces, tmp_path_factory):
    """An untrained VAE on faces, measured with the shipped classifier: call it with another model or other settings."""
    cache = tmp_path_factory.mktemp("features")

    def make(model=None, **settings) -> EvalContext:
        if model is None:
            torch.manual_seed(0)
            model = VAE(backbone=ConvBackbone(image_size=32, channels=3, width=16), latent_dim=8)
        return EvalContext(model.eval(), faces, **({"features": classifier_of(faces, cache), "cache": cache} | settings))

    return make


@pytest.fixture(scope="session")
def untrained(context):
    """All numbers of the untrained VAE."""
    with torch.no_grad():
        return evaluate(context())
