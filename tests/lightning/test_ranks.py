"""A model of the zoo on two ranks of a person's own Trainer, with a loader of their own."""

import os
import subprocess
import sys

import pytest
import torch

SCRIPT = """
import sys
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
import zoo

images = torch.randint(0, 256, (64, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
loader = DataLoader(TensorDataset(images), batch_size=8, drop_last=True)
name, precision = sys.argv[1:3]
torch.manual_seed(0)
model = getattr(zoo.models, name)(image_size=16, channels=1, latent_dim=4)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", precision=precision, accumulate_grad_batches=2, gradient_clip_val=1.0,
    **quiet,
)
trainer.fit(model, loader, loader)
torch.save({"weights": model.state_dict(), "mse": trainer.callback_metrics["val/mse"], "seed": model.training_config.seed,
            "images": model.images_counted}, f"{trainer.global_rank}.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), [("VAE", "32-true"), ("VAEGAN", "bf16-mixed")])
def test_both_ranks_end_with_the_same_weights_and_numbers(tmp_path, name, precision):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "script.py", name, precision]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, two["weights"][key]) for key, value in one["weights"].items())
    assert one["mse"] == two["mse"] > 0
    assert one["seed"] == two["seed"]
    assert one["images"] == two["images"] == 128
