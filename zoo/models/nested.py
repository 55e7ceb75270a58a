"""What methods with a trained autoencoder inside them share: how it takes over the weights of an earlier stage."""

from typing import Any

from zoo.errors import ZooError
from zoo.models.base import Autoencoder


def refuse_untrained(model: Any) -> None:
    """Raises ZooError unless this training goes on with another, or the autoencoder inside the model has been trained."""
    if model.trainer.ckpt_path is None and not model.images_counted and not model.autoencoder.images_counted:
        raise ZooError(
            f"{type(model).__name__} needs an earlier stage: a trained autoencoder. Train it first, or give autoencoder=zoo.load(RUN)."
        )


def take_over(own: Autoencoder, trained: Autoencoder | None) -> None:
    """Copies all weights of `trained`, a model of the same kind and settings. Raises ZooError, and changes nothing, if it is not."""
    if trained is None:
        raise ZooError("This model needs a trained autoencoder, but pretrain=none; leave that out, or give pretrain.run=RUN.")
    kinds = type(trained).__name__, type(own).__name__
    if kinds[0] != kinds[1]:
        raise ZooError(f"The autoencoder of pretrain is of the kind {kinds[0]}, model.autoencoder {kinds[1]}; choose the same in both.")
    if trained.image_shape != own.image_shape or trained.latent_dim != own.latent_dim:
        theirs, ours = (f"{'×'.join(map(str, model.image_shape))} into {model.latent_dim} dimensions" for model in (trained, own))
        raise ZooError(
            f"The autoencoder of pretrain encodes {theirs}, model.autoencoder {ours}; set data.image_size and model.latent_dim alike."
        )
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (trained, own)]
    if shapes[0] != shapes[1] or str(trained) != str(own):  # widths, normalisation, the range of the output
        raise ZooError("The autoencoder of pretrain has other networks than model.autoencoder; give both the same settings.")
    own.load_state_dict(trained.state_dict())
