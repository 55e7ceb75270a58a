"""Cross-reconstruction: fine-tunes a trained autoencoder so that its codes do not notice perturbations (students' own method, no paper).

    z = f(x)      z' = f(x')      x' = t(x), t drawn from a set of perturbations
    L = mean (x' - g(z))² + mean (x - g(z'))²                   + w · mean (x - g(z))²

The idea is to draw z and z' together: from z the decoder must make x', from z' it must make x. But the output that minimises a squared
error is the mean of the targets an input can have, for x that of all t(x), like ghosts of each other; and where an image shows that it is
perturbed, the minimum is not z = z': with a single flip the encoder simply learns to flip. So this is for few steps, with a frozen
decoder, as the text of the source has it (its code trains both), or with some of the ordinary loss, which keeps z in its place and lets
z' come to it.

Differs from the source's code: t is drawn for each image rather than for each batch, and one batch is one step, where the code makes
6 or 7 steps on the same batch. The control takes as many steps on the same images towards their own reconstructions.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import at_least_float32, mean_squared_error
from zoo.models.base import Autoencoder
from zoo.models.nested import refuse_untrained, take_over
from zoo.models.parts import built
from zoo.nets.perturbations import Perturbations, relative_distance
from zoo.priors import Gaussian

PERTURBATIONS = {"hflip": 1.0, "vflip": 1.0, "hvflip": 1.0}


class CrossAE(Autoencoder):
    """A trained autoencoder, fine-tuned by reconstructing x' from x and x from x'. Only its deterministic codes are used.

    Args:
        autoencoder: The model that is fine-tuned; it must come from an earlier stage.
        perturbations: Weights by name, see zoo.nets.perturbations; one is drawn for each image.
        train: "encoder" (what only the encoder has; all else stays as it is) or "both".
        ordinary: w, weight of the ordinary reconstruction.
        control: Reconstruct x from x and x' from x' instead, all else being equal.
        latent_dim: That of the autoencoder, if it is said twice.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        perturbations: Mapping[str, float] = PERTURBATIONS,
        train: str = "encoder",
        ordinary: float = 0.0,
        control: bool = False,
        latent_dim: int | None = None,
        **options: Any,
    ) -> None:
        autoencoder = built(autoencoder, "autoencoder")
        if train not in ("encoder", "both"):
            raise ZooError(f"model.train is '{train}'; it must be 'encoder' or 'both'.")
        if ordinary < 0:
            raise ZooError(f"model.ordinary={ordinary} must not be below 0.")
        if not autoencoder.can_encode:
            raise ZooError(f"model.autoencoder is a {type(autoencoder).__name__}, which cannot encode; choose another model.")
        if latent_dim not in (None, autoencoder.latent_dim):
            raise ZooError(f"model.latent_dim={latent_dim} is not that of model.autoencoder, {autoencoder.latent_dim}; set it to that.")
        options.setdefault("prior", Gaussian(autoencoder.latent_dim))
        super().__init__(autoencoder.image_shape, autoencoder.latent_dim, **options)
        self.perturb = Perturbations(perturbations, self.image_shape)
        self.autoencoder, self.ordinary, self.control = autoencoder, ordinary, control
        self.reads_attributes, self.batch_multiple = autoencoder.reads_attributes, autoencoder.batch_multiple
        self._freeze(train)
        self.train()

    def _freeze(self, train: str) -> None:
        """Only what `train` names keeps `requires_grad`: of the weights that codes depend on, those that images do not, or all of both."""
        self.eval()  # BatchNorm must not learn from this
        with torch.enable_grad():
            encoder = reached(self.encode(torch.zeros(2, *self.image_shape)), self.autoencoder)
            decoder = reached(self.decode(torch.zeros(2, self.latent_dim)), self.autoencoder)
        trained = encoder | decoder if train == "both" else encoder - decoder
        if not trained:
            raise ZooError(f"The encoder of a {type(self.autoencoder).__name__} has no weights of its own; set model.train=both.")
        for parameter in self.autoencoder.parameters():
            parameter.requires_grad_(parameter in trained)

    def train(self, mode: bool = True) -> "CrossAE":
        """What is frozen stays in eval mode: a BatchNorm in the decoder must not follow the new codes."""
        super().train(mode)
        for module in self.autoencoder.modules():
            own = [*module.parameters(recurse=False)]
            if own and not any(parameter.requires_grad for parameter in own):
                module.training = False  # not of what it holds
        return self

    def start_from(self, trained: Autoencoder | None) -> None:
        take_over(self.autoencoder, trained)

    def on_fit_start(self) -> None:
        if self.standalone:
            refuse_untrained(self)
        super().on_fit_start()

    def set_attribute_names(self, names: tuple[str, ...]) -> None:
        self.autoencoder.set_attribute_names(names)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        image = batch.image
        changed = self.perturb(image, self.uniform(len(image), self.perturb.draws))  # (B, C, H, W)
        latents = self.encode(torch.cat([image, changed]), torch.cat([batch.attributes, batch.attributes]))  # (2B, latent_dim)
        of_image, of_changed = self.decode(latents).chunk(2)  # (B, C, H, W) each

        ordinary = mean_squared_error(image, of_image)
        cross = mean_squared_error(changed, of_image) + mean_squared_error(image, of_changed)
        plain = ordinary + mean_squared_error(changed, of_changed)
        codes, moved = at_least_float32(latents).detach().chunk(2)
        distance = relative_distance(codes, moved, codes.roll(1, 0)).nan_to_num(1.0)  # of a single image nothing is known
        loss = (plain if self.control else cross) + self.ordinary * ordinary
        return {"loss": loss, "cross": cross, "plain": plain, "distance": distance}

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.autoencoder.encode(image, attributes)  # (B, latent_dim)

    def decode(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decode(latent)  # (B, C, H, W)


def reached(output: Tensor, module: nn.Module) -> set[nn.Parameter]:
    """The trainable parameters that an output depends on."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(output.sum(), parameters, allow_unused=True)
    return {parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None}
