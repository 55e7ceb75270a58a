import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

from zoo.config.schema import TrainerSettings
from zoo.errors import ZooError
from zoo.training.resolve import resolve_trainer
from zoo.training.trainer import build_trainer

AUTO = TrainerSettings()


def test_lightning_still_has_what_is_switched_off():
    assert callable(_TrainingEpochLoop._broadcast_sigterm_tensor)


@pytest.mark.parametrize(
    ("gpus", "asked", "found"),
    [
        (0, {}, ("cpu", 1, "32-true")),
        (0, {"accelerator": "cpu", "devices": 2}, ("cpu", 2, "32-true")),
        (0, {"precision": "bf16-mixed"}, ("cpu", 1, "bf16-mixed")),
        (8, {}, ("gpu", 8, "bf16-mixed")),
        (8, {"devices": 2, "precision": "16-mixed"}, ("gpu", 2, "16-mixed")),
        (8, {"accelerator": "cpu"}, ("cpu", 1, "32-true")),
    ],
)
def test_what_the_machine_has(monkeypatch, gpus, asked, found):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    resolved = resolve_trainer(AUTO.model_copy(update=asked))
    assert (resolved.accelerator, resolved.devices, resolved.precision) == found


@pytest.mark.parametrize("asked", [{"devices": 9}, {"devices": 0}, {"devices": "two"}])
def test_what_it_has_not(monkeypatch, asked):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    with pytest.raises(ZooError):
        resolve_trainer(AUTO.model_copy(update=asked))


def test_one_process_needs_no_ddp(tmp_path):
    saver = pl.callbacks.Checkpoint()
    assert build_trainer(resolve_trainer(AUTO.model_copy(update={"accelerator": "cpu"})), tmp_path, 1, [saver], []).world_size == 1
