"""Whether a change of the structure has changed what the models learn, or how fast: all models, trained as before and compared.

    python -m tests.references                    # trains all models here and compares them with values.json; `make references`
    python -m tests.references store              # writes values.json, before a change
    python -m tests.references speed CHECKOUT     # training images/s here against those of another checkout, as interleaved pairs

Values are equal to 1e-5 (relative) on one machine with one thread; on another machine they may differ by more, so store them there first,
from the commit before the change.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METRICS = ("val/mse", "val/loss")
VALUES = Path(__file__).with_name("values.json")
HERE = Path(__file__).resolve().parents[2]
MODELS = sorted(path.stem for path in (HERE / "conf/model").glob("*.yaml") if path.stem != "custom")
TOLERANCE = 1e-5  # relative
PAIRS = 9
LEAST_RATIO = 0.95  # of images/s


# Trains what each line of its input says, in one process, and answers with the images/s and the final numbers.
WORKER = """
import contextlib, json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from zoo.train import main
for line in sys.stdin:
    *overrides, folder = json.loads(line)
    sys.argv = ["zoo.train", *overrides, f"hydra.run.dir={folder}"]
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        main()
    print((Path(folder) / "summary.json").read_text().replace(chr(10), ""), flush=True)
"""


class Trainer:
    """A process that trains models by the code of a checkout: 32×32 faces, one thread, without a final evaluation."""

    def __init__(self, checkout: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(checkout)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process: Any = subprocess.Popen([sys.executable, "-c", WORKER], cwd=checkout, env=environment, **pipes)
        first_version = "max_images:" not in (checkout / "conf/train.yaml").read_text()
        self.length = "budget" if first_version else "max_images"  # the name of the setting
        self.settings = ["batch_size=32", "data.image_size=32", "trainer=cpu", "evaluation.samples=0", "logger=none"]

    def train(self, model: str, images: int) -> dict[str, Any]:
        """summary.json of one model."""
        with tempfile.TemporaryDirectory() as folder:
            settings = [f"model={model}", f"{self.length}={images}", *self.settings, f"{folder}/run"]
            print(json.dumps(settings), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{model} could not be trained, see above.")
        return json.loads(answer)


def values() -> Iterator[tuple[str, dict[str, float]]]:
    """Each model and its final numbers after 3,200 images."""
    trainer = Trainer(HERE)
    for model in MODELS:
        metrics = trainer.train(model, 3_200)["metrics"]
        yield model, {name: metrics[name] for name in METRICS if name in metrics}


def store() -> None:
    """Writes values.json."""
    VALUES.write_text(json.dumps(dict(values()), indent=1) + "\n")


def compare() -> bool:
    """Prints each model's numbers beside the stored ones; whether all are equal."""
    known, equal = json.loads(VALUES.read_text()), True
    if missing := [model for model in MODELS if model not in known]:
        raise SystemExit(f"{VALUES.name} has no values of {', '.join(missing)}; store them first: python -m tests.references store")
    for model, found in values():
        for name, value in known[model].items():
            difference = abs(found.get(name, float("nan")) - value) / max(abs(value), 1e-12)
            good = difference <= TOLERANCE
            equal &= good
            print(f"{model:10} {name:9} {value:<22} {found.get(name)!s:<22} {'' if good else f'differs by {difference:.1e}'}", flush=True)
    return equal


def speed(other: Path, images: int) -> bool:
    """Prints the median ratio of nine pairs of runs of each model, here against the other checkout; whether all are high enough."""
    here, there, fast = Trainer(HERE), Trainer(other), True
    for model in MODELS:
        ratios = []
        for k in range(PAIRS):
            rates = {trainer: trainer.train(model, images)["images_per_second"] for trainer in ((here, there) if k % 2 else (there, here))}
            ratios.append(rates[here] / rates[there])
        ratio = statistics.median(ratios)
        fast &= ratio >= LEAST_RATIO
        print(f"{model:10} {ratio:.3f}  ({min(ratios):.3f} to {max(ratios):.3f})", flush=True)
    return fast


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.references", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("store", help="write values.json")
    other = commands.add_parser("speed", help="compare images/s with another checkout")
    other.add_argument("checkout", type=Path)
    other.add_argument("--images", type=int, default=3_200)
    arguments = parser.parse_args()
    if arguments.command == "store":
        store()
    elif not (speed(arguments.checkout.resolve(), arguments.images) if arguments.command == "speed" else compare()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
