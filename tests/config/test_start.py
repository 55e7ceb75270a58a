"""What is imported before a mistake is told, and what is printed first."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "pytorch_lightning", "wandb", "sklearn", "pandas", "torchvision")
CODE = """
import sys
command, *sys.argv = sys.argv[1:]
import importlib
try:
    importlib.import_module(command).main()
except SystemExit as stop:
    print("code", stop.code)
print("imported", sorted({*sys.modules} & {%s}))
"""
LIGHT = {
    "zoo.train": [["model=vea"], ["optimizer.lr=-1"], ["data.limt=3"], ["trainer.max_time=1"], ["--cfg", "job"], ["--help"]],
    "zoo.evaluate": [["run=nowhere", "sampels=3"], ["metrics=[frechat]", "run=x"], ["--help"]],
    "zoo.generate": [["run=x", "count=-1"], ["--help"]],
}


@pytest.mark.parametrize(("command", "arguments"), [(command, given) for command, cases in LIGHT.items() for given in cases])
def test_a_mistake_and_help_need_no_torch(tmp_path, command, arguments):
    code = CODE % ", ".join(map(repr, HEAVY))
    done = subprocess.run([sys.executable, "-c", code, command, command, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported []", done.stdout + done.stderr
    assert ("code 2" in done.stdout) is not (arguments[0] in ("--cfg", "--help"))


def test_the_package_alone_is_light():
    done = subprocess.run([sys.executable, "-c", "import sys, zoo; print('torch' in sys.modules)"], capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_a_run_begins_with_what_it_trains_and_what_was_typed(zoo, tiny, tmp_path):
    done = zoo("train", *tiny, "evaluation.samples=0", "hydra.run.dir=run")
    first, second, third, given, *_ = done.out.splitlines()
    assert first == "vae on mnist, in run/"
    assert second == "  64 images of 1×28×28, 8 a step, on cpu (32-true)"
    assert "parameters, latent_dim 4" in third
    assert "model.latent_dim=4" in given
    assert "configuration" not in done.out
    assert "├── seed: 0" in zoo("train", *tiny, "evaluation.samples=0", "verbose=true", "hydra.run.dir=all").out


NEIGHBOURS = {
    "epochs=3": "use max_images=N, or trainer.max_epochs=N.",
    "lr=1e-3": "use optimizer.lr=X.",
    "gpus=2": "use trainer.devices=N.",
    "max_epochs=3": "did you mean 'trainer.max_epochs'?",
    "num_workers=4": "without worker processes.",
    "name=x": "use logger.wandb.name=X.",
    "width=32": "did you mean 'model.backbone.width'?",
    "monitor=x": "--cfg job shows all settings.",
}


@pytest.mark.parametrize("override", NEIGHBOURS)
def test_words_of_neighbours_are_told_the_right_key(zoo, override):
    done = zoo("train", override)
    assert done.code == 2
    assert done.err == f"zoo: There is no setting '{override.partition('=')[0]}'; {done.err.partition('; ')[2]}"
    assert done.err.strip().endswith(NEIGHBOURS[override])
