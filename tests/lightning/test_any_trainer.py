"""Every model in anybody's Trainer, with anybody's loader."""

import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from zoo.errors import ZooError
from zoo.models.acai import ACAI
from zoo.models.ae import AE
from zoo.models.cross_ae import CrossAE
from zoo.models.fvae import FVAE
from zoo.models.gan import GAN
from zoo.models.glow import Glow
from zoo.models.ltae import LTAE
from zoo.models.two_stage import TwoStage
from zoo.models.udt import UDT
from zoo.models.vae import VAE
from zoo.models.vaegan import VAEGAN
from zoo.nets.conv import ConvBackbone
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
    return pl.Trainer(
        **({"max_epochs": 2, "default_root_dir": folder, "enable_checkpointing": False, "log_every_n_steps": 2} | quiet | options)
    )


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


FLOATS = {
    "images alone": lambda image: image,
    "with labels": lambda image: (image, torch.zeros(len(image), dtype=torch.int64)),
    "a list": lambda image: [image, torch.zeros(len(image))],
    "a dict": lambda image: {"image": image, "name": ["x"] * len(image)},
}


@pytest.mark.parametrize("kind", FLOATS)
def test_what_a_loader_may_yield(kind, tmp_path):
    """The same images as uint8 and as floats, however they are packed, train the same weights."""
    images = data().tensors[0]

    def weights(scaled, collate):
        pl.seed_everything(3, verbose=False)
        model = AE(**SMALL)
        trainer(tmp_path).fit(model, DataLoader(scaled, batch_size=8, collate_fn=lambda rows: collate(torch.stack(rows))))
        return model.state_dict()

    expected, found = weights(images, lambda image: image), weights(images / 127.5 - 1, FLOATS[kind])
    assert all(torch.allclose(value, found[name], atol=1e-5) for name, value in expected.items())


BAD = {
    "but models take .*multiply by 2 and subtract 1": torch.rand(16, 1, 16, 16),
    "lie in \\[-?\\d.*give uint8, or float in \\[-1, 1\\]": 255 * torch.rand(16, 1, 16, 16),
    "nan": torch.full((16, 1, 16, 16), float("nan")),
    "torch.float32 \\(8, 256\\); models take images \\(B, C, H, W\\)": torch.rand(16, 256),
    "torch.int64": torch.zeros(16, 1, 16, 16, dtype=torch.int64),
}


@pytest.mark.parametrize("sentence", BAD)
def test_other_images_are_refused_before_a_weight_moves(sentence, tmp_path):
    model = VAE(**SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZooError, match=sentence):
        trainer(tmp_path).fit(model, loader(TensorDataset(BAD[sentence])), loader(TensorDataset(BAD[sentence])))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_needs_more_says_so(tmp_path):
    images = loader(TensorDataset(data().tensors[0]))
    for model, sentence in (
        (TwoStage(AE(**SMALL)), "TwoStage needs an earlier stage: a trained autoencoder.*zoo.load"),
        (CrossAE(AE(**SMALL)), "CrossAE needs an earlier stage: a trained autoencoder"),
        (UDT(**SMALL, attribute_dim=1), "UDT needs two domains: images without and with Eyeglasses.*domain=COLUMN"),
        (UDT(**SMALL, attribute_dim=1, domain=0), "UDT needs two domains, but the batches hold images alone"),
    ):
        with pytest.raises(ZooError, match=sentence):
            trainer(tmp_path).fit(model, images)
    with pytest.raises(ZooError, match=r"call model\.fit_prior\(loader\)"):
        AE(**SMALL).sample(1)
    with pytest.raises(ZooError, match="give backbone='conv' and a size"):
        VAE(latent_dim=4)
    with pytest.raises(ZooError, match="The backbone is for 1×16×16 images, not for image_size=32"):
        VAE(image_size=32, backbone=ConvBackbone(16, 1))


def test_data_dependent_parameters_are_set_once_from_the_first_batches_and_before_the_first_validation(tmp_path):
    seen = {}

    class Look(pl.Callback):
        def on_sanity_check_start(self, trainer, pl_module):
            seen["sanity"] = pl_module.log_gamma.item()

    model, dataset = VAE(**SMALL), data()
    trainer(tmp_path, max_epochs=1, callbacks=[Look()]).fit(model, loader(dataset), loader(dataset))
    assert seen["sanity"] == pytest.approx((dataset.tensors[0] / 127.5 - 1).std().log().item(), abs=1e-4)
    gamma = model.log_gamma.item()
    trainer(tmp_path, max_epochs=1, limit_train_batches=1, callbacks=[Look()]).fit(model, loader(dataset), loader(dataset))
    assert seen["sanity"] == gamma


def test_workers_that_persist_lose_no_batch(tmp_path):
    read = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            read.append(batch[1][:, 0].tolist())

    own = loader(num_workers=1, persistent_workers=True)
    trainer(tmp_path, max_epochs=2, callbacks=[Look()]).fit(VAE(**SMALL), own)
    assert read == [batch[1][:, 0].tolist() for batch in loader()] * 2


def test_the_seed_is_lightnings(tmp_path):
    def weights(seed):
        torch.manual_seed(0)
        model = VAE(**SMALL)
        pl.seed_everything(seed, verbose=False)
        trainer(tmp_path).fit(model, loader())
        return model.state_dict()

    first, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("name", ["vae", "vaegan", "two_stage", "glow"])
def test_a_stopped_training_goes_on_bit_for_bit(name, tmp_path):
    pl.seed_everything(1, verbose=False)
    torch.manual_seed(0)
    model = MODELS[name]()
    start = copy.deepcopy(model)
    whole = trainer(tmp_path, max_epochs=4)
    whole.fit(model, loader())
    half = trainer(tmp_path, max_epochs=2)
    half.fit(start, loader())
    half.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(5)  # of no account
    again = type(model).load_from_checkpoint(tmp_path / "half.ckpt", weights_only=True)
    trainer(tmp_path, max_epochs=4).fit(again, loader(), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    assert again.images_counted == model.images_counted == 128


def test_a_backbone_of_ones_own_is_given_again(tmp_path):
    class Mine:
        image_shape = (1, 16, 16)

        def encoder(self, features):
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, features))

        def decoder(self, dim):
            return torch.nn.Sequential(torch.nn.Linear(dim, 256), torch.nn.Unflatten(1, (1, 16, 16)))

    model = VAE(backbone=Mine(), latent_dim=4)
    fit = trainer(tmp_path, max_epochs=1)
    fit.fit(model, loader())
    fit.save_checkpoint(tmp_path / "model.ckpt")
    with pytest.raises(ZooError, match=r"backbone was a .*Mine, which cannot be made .*; give it again as backbone="):
        VAE.load_from_checkpoint(tmp_path / "model.ckpt")
    again = VAE.load_from_checkpoint(tmp_path / "model.ckpt", backbone=Mine())
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


def test_any_optimizer_of_torch(tmp_path):
    for optimizer in (torch.optim.SGD, partial(torch.optim.AdamW, weight_decay=0.1), torch.optim.NAdam, torch.optim.Adafactor):
        model = AE(**SMALL, optimizer=optimizer, lr=0.02, param_groups={"autoencoder": {"weight_decay": 0.5}})
        fit = trainer(tmp_path, max_epochs=1)
        fit.fit(model, loader())
        [group] = fit.optimizers[0].param_groups
        assert isinstance(fit.optimizers[0], optimizer.func if isinstance(optimizer, partial) else optimizer)
        assert (group["lr"], group["weight_decay"]) == (0.02, 0.5)
