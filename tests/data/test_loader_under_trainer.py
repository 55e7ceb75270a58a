"""The loader under the real Trainer: epochs advance, and a resumed run sees exactly the images the uninterrupted run sees."""

import pytest
import pytorch_lightning as pl
import torch

from tests.data.test_store import Toy
from zoo.data.loader import BatchLoader
from zoo.data.store import prepare


class Recorder(pl.LightningModule):
    """A model of one weight that writes down what it is given."""

    def __init__(self, loader, val=None):
        super().__init__()
        self.loader, self.val, self.seen, self.validated = loader, val, [], []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def train_dataloader(self):
        return self.loader

    def val_dataloader(self):
        return self.val if self.val is not None else []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch.index.tolist(), self.loader.flips[batch.index].tolist()))
        return (self.weight * batch.image.float().mean()).sum()

    def validation_step(self, batch, batch_idx):
        self.validated += batch.index.tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(pl.Callback):
    """Saves after these batches, counted over the whole run from 1."""

    def __init__(self, folder, batches):
        self.folder, self.batches = folder, batches

    def on_train_batch_end(self, trainer, module, *_):
        if len(module.seen) in self.batches:
            trainer.save_checkpoint(self.folder / f"{len(module.seen)}.ckpt")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return prepare(Toy(image_size=4), tmp_path_factory.mktemp("cache"))


def fit(module, max_steps, ckpt_path=None, callbacks=(), **options):
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=max_steps,
        max_epochs=-1,
        logger=False,
        callbacks=list(callbacks),
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    trainer.fit(module, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return module


def new(store, with_val=False, prefetch=False, **options):
    val = BatchLoader(store, "val", 48, shuffle=False) if with_val else None
    return Recorder(BatchLoader(store, "train", 48, seed=1, prefetch=prefetch, **options), val)


def by_hand(store, epochs, seed=1):
    """The same order without Lightning."""
    loader = BatchLoader(store, "train", 48, seed=seed)
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for step, batch in enumerate(loader):
            yield epoch, step, batch.index.tolist(), loader.flips[batch.index].tolist()


@pytest.mark.parametrize("with_val", [False, True])
@pytest.mark.parametrize("prefetch", [False, True])
def test_resumed_runs_see_what_the_uninterrupted_sees(store, tmp_path, with_val, prefetch):
    """Ten batches an epoch: saved after the first, in the middle, after the last but one and the last, and in the second epoch."""
    batches = (1, 2, 5, 9, 10, 11, 15, 20, 21)
    whole = fit(new(store, with_val, prefetch), 25, callbacks=[SaveAt(tmp_path, batches)])
    assert whole.seen == list(by_hand(store, 3))[:25]
    for batch in batches:
        resumed = fit(new(store, with_val, prefetch), 25, ckpt_path=tmp_path / f"{batch}.ckpt")
        assert resumed.seen == whole.seen[batch:], f"saved after batch {batch}"
        assert torch.equal(resumed.weight, whole.weight)


def test_resumed_twice_in_one_epoch(store, tmp_path):
    whole = fit(new(store), 25, callbacks=[SaveAt(tmp_path, [12])])
    first = fit(new(store), 25, ckpt_path=tmp_path / "12.ckpt", callbacks=[SaveAt(tmp_path, [4])])
    assert first.seen == whole.seen[12:]
    again = fit(new(store), 25, ckpt_path=tmp_path / "4.ckpt")
    assert again.seen == whole.seen[16:]


def test_with_accumulation(store, tmp_path):
    whole = fit(new(store, accumulate_grad_batches=2), 25, callbacks=[SaveAt(tmp_path, [6, 20, 30])], accumulate_grad_batches=2)
    assert len(whole.seen) == 50
    pairs = [(a[0], a[2] + b[2]) for a, b in zip(whole.seen[::2], whole.seen[1::2], strict=True)]
    assert pairs == [(epoch, index) for epoch, _, index, _ in by_hand(store, 3)][:25]
    for batch in (6, 20, 30):
        resumed = fit(new(store, accumulate_grad_batches=2), 25, ckpt_path=tmp_path / f"{batch}.ckpt", accumulate_grad_batches=2)
        assert resumed.seen == whole.seen[batch:]


def test_limit_train_batches(store, tmp_path):
    """An epoch is cut short, its generator abandoned: the next one starts at its own beginning."""
    batches = (2, 4, 6)
    whole = fit(new(store), 11, callbacks=[SaveAt(tmp_path, batches)], limit_train_batches=4)
    assert whole.seen == [item for item in by_hand(store, 3) if item[1] < 4][:11]
    for batch in batches:
        resumed = fit(new(store), 11, ckpt_path=tmp_path / f"{batch}.ckpt", limit_train_batches=4)
        assert resumed.seen == whole.seen[batch:], f"saved after batch {batch}"


def test_validation_sees_each_image_once_each_time(store):
    module = fit(new(store, with_val=True), 20)
    assert module.validated == 2 * store.indices("val").tolist()
