"""Every model in anybody's Trainer, with anybody's loader."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from zoo.errors import ZooError
from zoo.models.acai import ACAI
from zoo.models.ae import AE
from zoo.models.base import evaluation_mode
from zoo.models.cross_ae import CrossAE
from zoo.models.fvae import FVAE
from zoo.models.gan import GAN
from zoo.models.glow import Glow
from zoo.models.ltae import LTAE
from zoo.models.two_stage import TwoStage
from zoo.models.udt import UDT
from zoo.models.vae import VAE
from zoo.models.vaegan import VAEGAN
from zoo.nets.fvae import FVAEBackbone
from zoo.nets.glow import ImageFlow
from zoo.runs.load import load

SIZE = {"image_size": 16, "channels": 1}
SMALL = SIZE | {"latent_dim": 4}
FLOW = partial(ImageFlow, levels=2, depth=1, width=8)
MODELS = {
    "ae": lambda: AE(**SMALL),
    "vae": lambda: VAE(**SMALL),
    "vaegan": lambda: VAEGAN(**SMALL),
    "gan": lambda: GAN(**SMALL, discriminator_warmup=0.5),
    "acai": lambda: ACAI(**SMALL),
    "udt": lambda: UDT(**SMALL, attribute_dim=1, domain=1),
    "glow": lambda: Glow(**SIZE, flow=FLOW),
    "fvae": lambda: FVAE(backbone=FVAEBackbone(16, 1, squeezes=1, blocks=1, width=8), flow=FLOW),
    "two_stage": lambda: TwoStage(trained(AE(**SMALL))),
    "cross_ae": lambda: CrossAE(trained(AE(**SMALL))),
    "ltae": lambda: LTAE(**SMALL),
}


def data(count: int = 32) -> TensorDataset:
    """Random uint8 images, with two attributes each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 16, 16), generator=generator, dtype=torch.uint8)
    return TensorDataset(images, torch.arange(2 * count).reshape(count, 2) // 2 % 2)


def loader(dataset: Dataset | None = None, **options) -> DataLoader:
    return DataLoader(dataset or data(), **({"batch_size": 8, "drop_last": True} | options))


def trainer(folder, **options) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}
    return pl.Trainer(**({"max_epochs": 2, "default_root_dir": folder, "enable_checkpointing": False, "log_every_n_steps": 2} | quiet | options))


def trained(model, folder=None):
    trainer(folder, max_epochs=1).fit(model, loader())
    return model


@pytest.mark.parametrize("name", MODELS)
def test_it_trains_validates_tests_and_predicts(name, tmp_path):
    torch.manual_seed(0)
    model = MODELS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fit = trainer(tmp_path)
    fit.fit(model, loader(), loader(drop_last=False, batch_size=5))
    assert fit.global_step == 8
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
    found = fit.callback_metrics
    assert {"train/loss", "val/loss"} <= found.keys()
    assert all(value.isfinite() for value in found.values()), found
    assert model.can_encode == ("val/mse" in found) == ("val/psnr" in found)
    [validated], [tested] = fit.validate(model, loader(), verbose=False), fit.test(model, loader(), verbose=False)
    assert {key.removeprefix("val/") for key in validated} == {key.removeprefix("test/") for key in tested}
    assert validated["val/loss"] == pytest.approx(tested["test/loss"], rel=1e-6)
    model.eval()
    with torch.no_grad():
        model.fit_prior(loader())
    made = fit.predict(model, loader())
    assert [tuple(part.shape) for part in made] == [(8, 1, 16, 16)] * 4
    assert model.sample(3).shape == (3, 1, 16, 16)
    path = tmp_path / "model.ckpt"
    fit.save_checkpoint(path)
    for again in (type(model).load_from_checkpoint(path, weights_only=True), load(path)):
        assert type(again) is type(model)
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
