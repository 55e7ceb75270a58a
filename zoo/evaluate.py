"""Measures a trained model on the test split by one protocol: samples, reconstructions, interpolations, codes, likelihood, edits, cost.

    python -m zoo.evaluate run=runs/…
    python -m zoo.evaluate run=runs/… metrics=[frechet,kernel] features=inception features.weights=FILE

Writes evaluation.json (what the weights and the protocol decide), cost.json (what the machine decides) and pictures in evaluation/.
"""

from pathlib import Path

from omegaconf import DictConfig

from zoo.data.source import SPLITS
from zoo.engine import devices
from zoo.engine.cli import run_verb
from zoo.engine.load import open_run
from zoo.errors import ZooError
from zoo.evaluation import report
from zoo.evaluation.cost import cost
from zoo.evaluation.protocol import evaluate, selected
from zoo.evaluation.subject import Subject, features_of
from zoo.evaluation.validation import quiet


def main() -> None:
    """The command line's entry."""
    run_verb(measure, "evaluate")


def measure(config: DictConfig) -> None:
    """Opens the run and its data, measures, writes and prints."""
    selection = selected(config.metrics)
    if config.split not in SPLITS:
        raise ZooError(f"split={config.split} is not known; use test, val or train.")
    if type(config.samples) is not int or config.samples < 1:
        raise ZooError(f"samples={config.samples} must be a whole number of at least 1.")
    if type(config.seed) is not int:
        raise ZooError(f"seed={config.seed} must be a whole number.")
    device = devices.single(config.device)
    run = open_run(config.run, device)
    data = run.data(config.data_root, config.cache)
    out = run.folder if config.out is None else Path(str(config.out)).expanduser()
    if out.exists() and not out.is_dir():
        raise ZooError(f"out={config.out} is a file; name a folder.")
    out.mkdir(parents=True, exist_ok=True)
    subject = Subject(run.model, data.store, config.split, config.samples, cache=data.cache, seed=config.seed)
    subject.features = features_of(subject, config.features.name, config.features.weights)
    with quiet(run.model):
        numbers = evaluate(subject, selection)
        measured = report.write_numbers(out, run, subject, numbers)
        spent = cost(run, subject)
        report.write_json(out / "cost.json", spent)
        report.draw(out / "evaluation", subject)
    report.show(out, measured, spent)


if __name__ == "__main__":
    main()
