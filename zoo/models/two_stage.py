"""Two stages: a deterministic autoencoder, then an invertible map of its codes to N(0, I), fitted by maximum likelihood.

    1  any autoencoder of the zoo; the plain one by its squared error
    2  u = (z - m) / s      z = f(x)                         m, s: mean and standard deviation of each dimension over the training codes
       loss = -log p(z) = ½‖F(u)‖² + D/2·log 2π - log|det ∂F/∂u| + Σ log s             nats per image, mean over the batch

The autoencoder does not change in stage 2, so each image is encoded once, before the first step: a step reads codes from a table and costs
neither time nor memory for the networks. The codes are those of the images as they are: data.flip mirrors images in stage 1 alone. Training
goes back to the flow with the best likelihood of held-out codes, a tenth of the training images', and ends when that has not improved for a
while. An autoencoder with a mixture of ten Gaussians is hard to beat (RAE, 1903.12436, table 1), so a Gaussian and a mixture are always
measured on the same codes.

With `joint` both are trained in one loop (GLF: generative latent flow, 1905.10485): loss = mean (x - g(z))² + the likelihood term of sg[z].
No gradient of the flow reaches the encoder, which could else shrink the codes without end; so no parameter feels both terms, and no
weight is needed between them. Differs from the paper: squared error, a mean over values and images, for its L1 and perceptual distances.
The codes move, so nothing is cached or standardised beforehand (m = 0, s = 1; the flow's own layers follow), and nothing is held out.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.batch import Batch
from zoo.errors import ZooError
from zoo.losses import at_least_float32, mean_squared_error
from zoo.models.ae import AE
from zoo.models.base import Autoencoder, evaluation_mode
from zoo.models.nested import refuse_untrained, take_over
from zoo.models.parts import built
from zoo.nets.flows import Flow
from zoo.priors.flow import Flow as FlowPrior
from zoo.priors.flow import standardisation
from zoo.priors.normal import enough

TENTH = 10  # training images of which one is held out
INITIAL = 1024  # codes that the flow's data-dependent layers start from
CHUNK = 512  # held-out codes at once


class TwoStage(Autoencoder):
    """An autoencoder and a flow of its codes. The parameter group is "flow"; with `joint` there is "autoencoder", too.

    Args:
        autoencoder: Stage 1, any model that can encode; its weights come from a trained one, unless `joint`.
        latent_dim: That of the autoencoder.
        flow: The map of standardised codes.
        joint: Train both at once, from scratch (GLF); the autoencoder must then be an AE.
        check_every_images: Images between two looks at the likelihood of the held-out codes; there is another one at the end.
        patience: Looks without an improvement after which training ends.
        **options: As in Autoencoder, without a prior: it is the flow.
    """

    check_finite_loss = True
    prior: FlowPrior

    def __init__(
        self,
        autoencoder: Autoencoder,
        latent_dim: int | None = None,
        flow: Flow | None = None,
        joint: bool = False,
        check_every_images: int = 5_000,
        patience: int = 10,
        **options: Any,
    ) -> None:
        autoencoder = built(autoencoder, "autoencoder")
        refuse_unless_encoder(autoencoder)
        if latent_dim not in (None, autoencoder.latent_dim):
            raise ZooError(f"model.latent_dim={latent_dim} is not that of model.autoencoder, {autoencoder.latent_dim}; set it to that.")
        if joint and not isinstance(autoencoder, AE):
            raise ZooError(f"model.joint=true trains a plain AE by its squared error, not a {type(autoencoder).__name__}; leave it out.")
        if check_every_images < 1 or patience < 1:
            raise ZooError(f"model.check_every_images={check_every_images} and model.patience={patience} must be at least 1.")
        latent_dim = autoencoder.latent_dim
        prior = FlowPrior(latent_dim, built(flow, "flow"))
        super().__init__(autoencoder.image_shape, latent_dim, prior, **options)
        self.autoencoder = autoencoder.requires_grad_(joint)
        self.autoencoder.prior.requires_grad_(False)
        self.prior.transform.requires_grad_(True)
        self.prior.needs_fit = False  # stage 2 is its fit
        self.joint, self.check_every_images, self.patience = joint, check_every_images, patience
        self.reads_attributes, self.batch_multiple = autoencoder.reads_attributes, autoencoder.batch_multiple
        self.best: dict[str, Tensor] = {}  # the flow with the best likelihood of held-out codes so far,
        self.best_nll, self.stale = math.inf, 0  # that likelihood, and how many looks ago it was; kept in checkpoints
        self.table: Tensor | None = None  # codes by position in the store, while training
        self.held_out = torch.empty(0, latent_dim)
        self.train()

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        flow = {"flow": [*self.prior.transform.parameters()]}
        return {"autoencoder": [*self.autoencoder.parameters()]} | flow if self.joint else flow

    def train(self, mode: bool = True) -> "TwoStage":
        """As ever, but an autoencoder that is no longer trained stays in eval mode: neither dropout nor statistics of batches."""
        super().train(mode)
        if not self.joint:
            self.autoencoder.eval()
        return self

    def on_fit_start(self) -> None:
        if self.standalone and not self.joint:
            refuse_untrained(self)
        super().on_fit_start()

    def set_attribute_names(self, names: tuple[str, ...]) -> None:
        self.autoencoder.set_attribute_names(names)

    def start_from(self, trained: Autoencoder | None) -> None:
        if self.joint:
            if trained is not None:
                raise ZooError("model.joint=true trains autoencoder and flow at once, from scratch; add pretrain=none.")
            return
        if trained is not None:
            refuse_unless_encoder(trained)
        take_over(self.autoencoder, trained)

    def initialize(self, batch: Batch) -> None:
        if self.joint:
            self.autoencoder.initialize(batch)
            self._begin(at_least_float32(self.encode(batch.image)), torch.zeros(self.latent_dim), torch.ones(self.latent_dim))

    def prepare_data_cache(self, read: Callable[[str], Iterable[Batch]]) -> None:
        """Encodes the training and the validation images once. Raises ZooError if a dimension of the codes is constant."""
        if self.joint:
            return
        if self.stale >= self.patience:
            return self._end(self.trainer.global_step)
        (train, codes), (val, others) = (self._codes_of(read(split)) for split in ("train", "val"))
        if not self.prior.fitted:
            self._begin(codes, *standardisation(enough(codes.cpu(), self.latent_dim)))
        self.held_out = codes[TENTH - 1 :: TENTH].clone()
        codes[TENTH - 1 :: TENTH] = codes[TENTH - 2 :: TENTH][: len(self.held_out)]  # batches get the neighbour's instead
        size = 1 + int(torch.cat([train, val]).max())
        self.table = codes.new_full((size, self.latent_dim), float("nan"))  # other images: nothing goes wrong unseen
        self.table[train], self.table[val] = codes, others

    def _begin(self, codes: Tensor, mean: Tensor, scale: Tensor) -> None:
        """Standardises by mean and scale (D,), and sets the flow's data-dependent layers by some of the codes (N, D)."""
        self.prior.mean.copy_(mean)
        self.prior.scale.copy_(scale)
        self.prior.fitted.fill_(True)
        some = codes[:: max(1, len(codes) // INITIAL)][:INITIAL]  # from everywhere: sources may list one class after the other
        self.prior.transform.initialize((some - self.prior.mean) / self.prior.scale)

    def _codes_of(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """Positions in the store (N,) and codes (N, latent_dim) of all images."""
        parts = [(batch.index, at_least_float32(self.encode(batch.image, batch.attributes))) for batch in batches]
        index, codes = zip(*parts, strict=True)
        return torch.cat(index), torch.cat(codes)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        if self.joint:
            code = self.encode(batch.image, batch.attributes)  # (B, latent_dim)
            reconstruction = mean_squared_error(batch.image, self.decode(code))
            nll = -self.prior.log_prob(at_least_float32(code.detach())).mean()
            return {"loss": reconstruction + nll, "reconstruction": reconstruction, "nll": nll}
        if self.table is not None:
            code = self.table[batch.index]  # (B, latent_dim)
        else:
            with torch.no_grad():
                code = at_least_float32(self.encode(batch.image, batch.attributes))
        return {"loss": -self.prior.log_prob(code).mean()}

    def locate_nonfinite(self, batch: Batch) -> str:
        code = at_least_float32(self.encode(batch.image, batch.attributes))
        if not code.isfinite().all():
            return "the codes"
        found = self.prior.transform.first_not_finite((code - self.prior.mean) / self.prior.scale)
        return f"the flow, {found}" if found else ""

    def encode(self, image: Tensor, attributes: Tensor | None = None) -> Tensor:
        return self.autoencoder.encode(image, attributes)  # (B, latent_dim)

    def decode(self, latent: Tensor) -> Tensor:
        return self.autoencoder.decode(latent)  # (B, C, H, W)

    # Early stopping ---------------------------------------------------------------------------------------------------

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Then a look at the held-out codes, if it is due: here, as what watches and saves the step comes right after it."""
        super().optimizer_step(*args, **kwargs)
        steps, images = self.trainer.global_step + 1, self.images_per_step  # this one does not count yet
        last = steps >= self.trainer.estimated_stepping_batches
        if len(self.held_out) and (last or steps * images // self.check_every_images > (steps - 1) * images // self.check_every_images):
            self._check(steps, last)

    def _check(self, steps: int, last: bool) -> None:
        """Measures the held-out codes after `steps` steps and keeps the flow if it is the best; goes back to the best one at the end."""
        with evaluation_mode(self, self.trainer):
            nll = -torch.cat([self.prior.log_prob(part) for part in self.held_out.split(CHUNK)]).double().mean().item()
            nll = self.trainer.strategy.broadcast(nll if math.isfinite(nll) else math.inf)  # ranks must agree
            flow = self.prior.transform.state_dict()
            if nll < self.best_nll or not self.best:
                self.best = {name: value.clone() for name, value in flow.items()}
                self.best_nll, self.stale = nll, 0
            else:
                self.stale += 1
            ended = last or self.stale >= self.patience
            if ended:
                self._go_back()
        if ended:
            self._go_back()  # of averaged weights above, of those that are trained here
            self._end(steps)
        seen = self.training_config.images_before + steps * self.images_per_step
        for logger in self.trainer.loggers:
            logger.log_metrics({"images_seen": seen, "train/held_out_nll": nll}, step=steps - 1)

    def _go_back(self) -> None:
        self.prior.transform.load_state_dict(self.best)
        self.prior.held_out_nll.fill_(self.best_nll)

    def _end(self, steps: int) -> None:
        """Makes this step the last one, for all callbacks."""
        if steps < self.trainer.estimated_stepping_batches:
            best = f"the flow is the best one, of {self.best_nll:.4g} nats"
            self.end_reason = f"held-out codes got no likelier in {self.stale} looks; {best}"
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["early_stopping"] = {"best": self.best, "best_nll": self.best_nll, "stale": self.stale}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["early_stopping"]
        self.best = {name: value.to(self.device) for name, value in state["best"].items()}
        self.best_nll, self.stale = state["best_nll"], state["stale"]

    def on_train_end(self) -> None:
        self.table, self.held_out = None, self.held_out[:0]


def refuse_unless_encoder(model: Autoencoder) -> None:
    """Raises ZooError for a model that cannot be the first of two stages."""
    if isinstance(model, TwoStage):
        raise ZooError("The autoencoder of a TwoStage is itself a TwoStage; start from the run of its own first stage, RUN/pretrain.")
    if not model.can_encode:
        raise ZooError(f"The first stage of a TwoStage must encode images, but a {type(model).__name__} cannot; name another run or model.")
