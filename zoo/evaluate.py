"""Measures a trained model on the test split by one protocol: samples, reconstructions, interpolations, codes, likelihood, edits, cost.

    python -m zoo.evaluate run=runs/…
    python -m zoo.evaluate run=runs/… metrics=[frechet,kid] features=inception features.weights=FILE

Writes evaluation.json (what the weights and the protocol decide), cost.json (what the machine decides) and pictures in evaluation/.
"""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from zoo.config.app import run_command
from zoo.config.check import check
from zoo.config.schema import EvaluateSettings
from zoo.evaluation.descriptors import METRICS, selected, selected_priors
from zoo.files import output_folder
from zoo.runs.layout import COST


def main() -> None:
    """The command line's entry."""
    run_command(measure, "evaluate")


def measure(config: DictConfig) -> None:
    """Opens the run and its data, measures, writes after each group, and prints."""
    settings = check(config, EvaluateSettings)
    selection, priors = selected(settings.metrics), selected_priors(settings.priors)

    from zoo import hardware  # torch and what is built on it: slow to import
    from zoo.evaluation import samples
    from zoo.evaluation.context import EvalContext, features_of
    from zoo.evaluation.cost import cost
    from zoo.evaluation.metric_tables import show
    from zoo.evaluation.protocol import by_group, check_count
    from zoo.generation import grids
    from zoo.models.base import evaluation_mode
    from zoo.runs import records
    from zoo.runs.load import open_run
    from zoo.runs.results_file import ResultsFile

    run = open_run(settings.run, hardware.choose_device(settings.device))
    out = output_folder(settings.out, run.folder)
    data = run.data(settings.data_root, settings.cache)
    context = EvalContext(run.model, data.store, settings.split, settings.samples, cache=data.cache, seed=settings.seed, priors=priors)
    check_count(context)
    network = context.features = features_of(context, settings.features.name, settings.features.weights)
    out.mkdir(parents=True, exist_ok=True)
    measured = {"images_sha256": data.store.sha256, "split": settings.split, "seed": settings.seed, "device": context.device.type}
    features = {network.name: network.identity()} if network else {}
    results = ResultsFile(out, run, measured, features, list(HydraConfig.get().overrides.task))
    with evaluation_mode(run.model):
        for found in by_group(context, selection):
            results.add(found, context.notes)
        spent = cost(run, context)
        records.write(out / COST, spent)
        with_samples = selection is None or not {"samples", *METRICS["samples"]}.isdisjoint(selection)
        drawn = samples.priors(context) if with_samples else {}  # fitting them takes a while
        grids.draw_evaluation(out / "evaluation", context, drawn)
    show(out, results, spent)


if __name__ == "__main__":
    main()
