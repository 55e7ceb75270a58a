"""From a checkpoint to a model."""

from pathlib import Path
from typing import Any

from zoo.engine import checkpoint
from zoo.engine.config import build_model
from zoo.errors import ZooError
from zoo.models.base import Autoencoder


def fit_weights(model: Autoencoder, state: dict[str, Any], path: Path, key: str = "state_dict") -> None:
    """Raises ZooError unless the checkpoint's weights belong to this model: same names, same shapes."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    other = {name: tuple(value.shape) for name, value in state[key].items()}
    if own != other:
        name = next(name for name in sorted(own.keys() | other.keys()) if own.get(name) != other.get(name))
        raise ZooError(
            f"The checkpoint {path} belongs to another model than {type(model).__name__}: '{name}' is {other.get(name, 'missing')} there "
            f"and {own.get(name, 'missing')} here; name a run of the same model and settings."
        )


def load_model(path: Path, device: str = "cpu") -> Autoencoder:
    """A run's folder or a checkpoint file -> the model in eval mode on `device`."""
    if path.is_dir():
        path, state = checkpoint.newest_good(path)
    else:
        state = checkpoint.load(path)
    model = build_model(state["zoo"]["config"]["model"])
    if not isinstance(model, Autoencoder):
        raise ZooError(f"The checkpoint {path} configures a {type(model).__name__}, which is not a model of the zoo.")
    fit_weights(model, state, path)
    model.load_state_dict(state["state_dict"])
    model.images_seen.fill_(state["global_step"] * state["zoo"]["config"]["batch_size"])
    return model.to(device).eval()
