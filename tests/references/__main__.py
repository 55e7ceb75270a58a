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
from pathlib import Path
from typing import Any

MODELS = ("ae", "vae", "vaegan", "gan", "acai", "udt", "glow", "fvae", "two_stage", "cross_ae", "ltae")
METRICS = ("val/mse", "val/loss")
VALUES = Path(__file__).with_name("values.json")
HERE = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-5  # relative
PAIRS = 9
LEAST_RATIO = 0.95  # of images/s


def trained(checkout: Path, model: str, images: int, folder: Path) -> dict[str, Any]:
    """summary.json of one model, trained by the code of a checkout on 32×32 faces, on one thread, without a final evaluation."""
    length = "max_images" if "max_images:" in (checkout / "conf/train.yaml").read_text() else "budget"  # its name in the first version
    settings = [f"{length}={images}", "batch_size=32", "data.image_size=32", "trainer=cpu", "evaluation.samples=0", "logger=none"]
    command = [sys.executable, "-m", "zoo.train", f"model={model}", *settings, f"hydra.run.dir={folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{model} in {checkout} failed:\n{done.stdout}{done.stderr}")
    return json.loads((folder / "summary.json").read_text())


def values_of(model: str) -> dict[str, float]:
    """The final numbers of a model after 3,200 images."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = trained(HERE, model, 3_200, Path(folder) / "run")["metrics"]
    return {name: metrics[name] for name in METRICS if name in metrics}


def store() -> None:
    """Writes values.json."""
    VALUES.write_text(json.dumps({model: values_of(model) for model in MODELS}, indent=1) + "\n")


def compare() -> bool:
    """Prints each model's numbers beside the stored ones; whether all are equal."""
    known, equal = json.loads(VALUES.read_text()), True
    for model in MODELS:
        found = values_of(model)
        for name, value in known[model].items():
            difference = abs(found.get(name, float("nan")) - value) / max(abs(value), 1e-12)
            good = difference <= TOLERANCE
            equal &= good
            print(f"{model:10} {name:9} {value:<22} {found.get(name)!s:<22} {'' if good else f'differs by {difference:.1e}'}", flush=True)
    return equal


def speed(other: Path, images: int = 9_600) -> bool:
    """Prints the median ratio of nine pairs of runs of each model, here against the other checkout; whether all are high enough."""
    fast = True
    for model in MODELS:
        ratios = []
        with tempfile.TemporaryDirectory() as folder:
            for k in range(PAIRS):
                both = [(HERE, "here"), (other, "there")]
                rates = {
                    name: trained(checkout, model, images, Path(folder) / f"{k}-{name}")["images_per_second"]
                    for checkout, name in (both if k % 2 else both[::-1])
                }
                ratios.append(rates["here"] / rates["there"])
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
    arguments = parser.parse_args()
    if arguments.command == "store":
        store()
    elif not (speed(arguments.checkout.resolve()) if arguments.command == "speed" else compare()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
