from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from zoo.batch import Batch
from zoo.callbacks import prior_fitter
from zoo.callbacks.collapse_warning import are_alike
from zoo.callbacks.prior_fitter import PriorFitter
from zoo.models import method
from zoo.models.ae import AE
from zoo.nets.latent_flows import CouplingFlow
from zoo.priors import Flow, Gaussian


@contextmanager
def averaged(model, trainer):
    """Inside, the model has weights of 1, as with averaging on; afterwards what it had before."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.fill_(1)
    yield
    model.load_state_dict(own)


@pytest.mark.parametrize("needs_fit", [True, False])
def test_averaging_the_weights_does_not_wash_a_flow_prior_out(monkeypatch, needs_fit):
    """What was fitted to codes of the averaged weights, parameters too, is kept; a flow that is trained with the model stays as it is."""
    model = nn.Linear(2, 2)
    model.prior = Flow(2, CouplingFlow(2, 2, 8), steps=20)
    model.prior.needs_fit = needs_fit
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitted = dict(before)

    def fit_prior(model, loader):
        model.prior.fit(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).cumsum(1))
        fitted.update({name: value.clone() for name, value in model.state_dict().items()})

    model.fit_prior = lambda loader: fit_prior(model, loader)
    monkeypatch.setattr(prior_fitter, "evaluation_mode", averaged)
    monkeypatch.setattr(prior_fitter, "is_due", lambda *_: True)
    trainer = SimpleNamespace(datamodule=SimpleNamespace(loader=lambda *_, **__: None))
    with torch.no_grad():
        PriorFitter(every=1).on_train_batch_end(trainer, model, None, None, 0)
    assert needs_fit != all(torch.equal(fitted[name], before[name]) for name, _ in model.named_parameters())
    for name, value in model.state_dict().items():
        expected = fitted if needs_fit and name.startswith("prior.") else before
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize(("share", "alike"), [(0.0, True), (0.01, True), (0.03, False), (1.0, False)])
def test_reconstructions_are_alike_if_they_differ_by_less_than_2_percent_of_the_images(share, alike):
    class Flat(nn.Module):
        def reconstruct(self, image, attributes):
            return share * image + 0.5

    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert are_alike(Flat(), Batch(images, torch.zeros(16, 0), torch.arange(16))) is alike


def test_every_tensor_of_a_fitted_prior_is_broadcast(monkeypatch):
    monkeypatch.setattr(method.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(method.dist, "broadcast", lambda tensor, rank: tensor.fill_(rank + 1))
    for prior in (Gaussian(3), Flow(3)):
        model = AE(image_size=8, channels=1, latent_dim=3, prior=prior)
        with torch.no_grad():
            model.fit_prior([torch.rand(64, 1, 8, 8) * 2 - 1])
        assert all((tensor == 1).all() for tensor in [*prior.parameters(), *prior.buffers()] if tensor.is_floating_point())
