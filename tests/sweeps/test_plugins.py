"""What Hydra imports for every command."""

import subprocess
import sys
from pathlib import Path

import hydra_plugins.zoo_sweeps

HEAVY = ("torch", "pytorch_lightning", "optuna", "submitit", "numpy", "wandb", "pandas")


def test_the_plugins_are_light():
    program = f"import sys, hydra_plugins.zoo_sweeps; print([name for name in {HEAVY} if name in sys.modules])"
    folder = Path(hydra_plugins.zoo_sweeps.__file__).parents[1]
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=folder) == "[]\n"
