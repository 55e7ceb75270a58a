"""Searches settings with Optuna: `python -m zoo.train -m hydra/sweeper=optuna hydra.sweeper.metric=val/mse model.beta='interval(0.5,4)'`.

The space is written in Hydra's own grammar: `interval(0.5,4)` any number between, `int(interval(16,64))` whole ones,
`tag(log,interval(1e-4,1e-2))` on a logarithmic scale, `range(1,5)` steps, `choice(16,32,64)` or `16,32,64` one of these. The study lies in
`study.db` in the sweep's folder: the same command goes on with it, and jobs that were running keep their settings and folders. Each trial
has a sampler of its own, seeded by its number, so that a study that was stopped draws what it would have drawn. (The released
hydra-optuna-sweeper needs an Optuna of 2022.)
"""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override

from zoo.config.overrides import takes_several
from zoo.errors import ZooError, nearest
from zoo.sweeps.plugins import ParamsSweeper

DIRECTIONS = ("minimize", "maximize")


class OptunaSweeper(ParamsSweeper):
    """Asks Optuna for settings, has the launcher train them, tells Optuna the metric.

    Args:
        metric: A name among the metrics of a job's summary.json.
        direction: "minimize" or "maximize".
        trials: Jobs in all, failed ones and those of earlier sessions included.
        jobs: How many are asked for and launched together.
        seed: Of the sampler.
        failures: So many failed jobs in a row, before any good one, end the search.
        params: More settings to search or to fix, {name: values}; the command line goes first.
    """

    def __init__(
        self,
        metric: str | None,
        direction: str,
        trials: int,
        jobs: int,
        seed: int,
        failures: int,
        params: dict[str, str] | None = None,
    ) -> None:
        self.metric, self.direction, self.params = metric, direction, params or {}
        self.trials, self.jobs, self.seed, self.failures = trials, jobs, seed, failures

    def sweep(self, arguments: list[str]) -> float:
        """Runs the search to its end; the best value. Raises ZooError."""
        from zoo.sweeps.jobs import sweep_lock

        self._check_options()
        try:
            import optuna  # here, as Hydra imports this module for every command
        except ModuleNotFoundError:
            raise ZooError("hydra/sweeper=optuna needs the package optuna; install it with pip install 'zoo[sweep]'.") from None

        self.optuna: Any = optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        overrides, self.folder = self.overrides(arguments), Path(str(self.config.hydra.sweep.dir))
        space = {key: distribution(override) for key, override in overrides.items() if takes_several(override)}
        fixed = [one_value(override) for key, override in overrides.items() if key not in space]
        if not space:
            raise ZooError("hydra/sweeper=optuna has nothing to search; give some settings as key=interval(low,high) or key=a,b,c.")
        example = {key: found.low if hasattr(found, "low") else found.choices[0] for key, found in space.items()}
        self.launcher.checked_jobs([[*fixed, *as_overrides(example)]], 0)  # refuses what is wrong before anything is written
        with sweep_lock(self.folder):
            study = self._study(sorted(str(override.input_line) for override in overrides.values()))
            return self._search(study, space, fixed)

    def _search(self, study: Any, space: dict[str, Any], fixed: list[str]) -> float:
        """Batch after batch; the best value. Raises ZooError."""
        failed = 0  # in this session: what failed in an earlier one may have been mended
        while batch := self._batch(study, space):
            jobs: dict[int, dict[str, Any]] = {trial.user_attrs["job"]: trial.params for trial in batch}
            overrides = [[*fixed, *as_overrides(params)] for params in jobs.values()]
            returned = self.launcher.launch(overrides, initial_job_idx=min(jobs))
            metrics = {job: done.return_value for job, done in zip(jobs, returned, strict=True)}
            self._tell(study, batch, metrics)
            failed += sum(found is None for found in metrics.values())
            if failed >= self.failures and not has_values(study):
                raise ZooError(
                    f"The search ends, as its first {failed} jobs failed; see the folders in {self.folder}/, and repair what they name."
                )
        return self._report(study, fixed)

    def _check_options(self) -> None:
        if not self.metric:
            raise ZooError(
                "The search needs to know what shall become best; give hydra.sweeper.metric=val/mse, or another of summary.json."
            )
        if self.direction not in DIRECTIONS:
            raise ZooError(f"hydra.sweeper.direction={self.direction} is not known; use minimize or maximize.")
        for name, least in (("trials", 1), ("jobs", 1), ("failures", 1), ("seed", 0)):
            if type(getattr(self, name)) is not int or getattr(self, name) < least:
                raise ZooError(f"hydra.sweeper.{name}={getattr(self, name)} must be a whole number of at least {least}.")

    def _study(self, overrides: list[str]) -> Any:
        """The study in the sweep's folder, new or with its earlier trials; one per metric and direction."""
        study = self.optuna.create_study(
            storage=f"sqlite:///{self.folder.resolve()}/study.db",
            study_name=f"{self.direction} {self.metric}",
            direction=self.direction,
            load_if_exists=True,
        )
        known = study.user_attrs.setdefault("overrides", overrides)
        if known != overrides:
            differing = ", ".join(sorted(set(known) ^ set(overrides)))
            raise ZooError(f"{self.folder}/ holds a search of other settings (differing: {differing}); give another hydra.sweep.dir=DIR.")
        study.set_user_attr("overrides", overrides)
        return study

    def _batch(self, study: Any, space: dict[str, Any]) -> list[Any]:
        """The trials to be run now: those that were running when an earlier session ended, else new ones; [] at the end.

        Trials with the same settings share one job; one whose job is done is told at once.
        """
        states = self.optuna.trial.TrialState
        running = study.get_trials(states=[states.RUNNING])
        for trial in running:
            if "job" not in trial.user_attrs:  # cut off while it was drawn
                study.tell(trial.number, state=states.FAIL)
        batch = [trial for trial in running if "job" in trial.user_attrs]
        if batch:
            return batch
        earlier = [*study.get_trials(states=[states.COMPLETE, states.FAIL])]
        while len(batch) < self.jobs and len(earlier) + len(batch) < self.trials:
            known = [trial for trial in (*earlier, *batch) if "job" in trial.user_attrs]
            study.sampler = self.optuna.samplers.TPESampler(seed=(1_000_000 * self.seed + len(earlier) + len(batch)) % 2**32)
            asked = study.ask(space)
            twin = next((trial for trial in known if trial.params == asked.params), None)
            asked.set_user_attr("job", twin.user_attrs["job"] if twin else len({trial.user_attrs["job"] for trial in known}))
            trial = study.trials[asked.number]
            if twin and twin.state.is_finished():
                earlier.append(study.tell(trial.number, twin.value, state=twin.state))
            else:
                batch.append(trial)
        return batch

    def _tell(self, study: Any, batch: Sequence[Any], metrics: dict[int, dict[str, float] | None]) -> None:
        """Tells the value of each trial's job, or that it failed. Raises ZooError, telling nothing, if no job has such a metric."""
        assert self.metric
        good = [found for found in metrics.values() if found is not None]
        if good and not has_values(study) and not any(self.metric in found for found in good):
            names = sorted(set().union(*good))
            raise ZooError(
                f"There is no metric '{self.metric}'; {nearest(self.metric, names)} What is finished is kept: type the "
                f"command with the right one and hydra.sweep.dir={self.folder}."
            )
        for trial in batch:
            value = (metrics[trial.user_attrs["job"]] or {}).get(self.metric, math.nan)
            if math.isfinite(value):
                study.tell(trial.number, value)
                print(
                    f"trial {trial.number + 1} of {self.trials}: {self.metric} {value:.6g}, best so far {study.best_value:.6g}", flush=True
                )
            else:
                study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
                print(f"trial {trial.number + 1} of {self.trials}: failed", flush=True)

    def _report(self, study: Any, fixed: list[str]) -> float:
        """Prints the best trial: its value, folder and command."""
        from zoo.sweeps.jobs import read_sweep

        if not has_values(study):
            raise ZooError(f"None of the {len(study.trials)} jobs of the search in {self.folder}/ finished; see what they say.")
        best = study.best_trial
        overrides = [*fixed, *as_overrides(best.params)]
        jobs = read_sweep(self.folder)["jobs"]
        job = next((self.folder / job["folder"] for job in jobs if job["overrides"] == overrides), self.folder)
        print(f"Best {self.metric} of {len(study.trials)} trials: {best.value:.6g}, in {job}/")
        print(f"  {shlex.join(['python', '-m', 'zoo.train', *overrides])}", flush=True)
        return float(best.value)


def has_values(study: Any) -> bool:
    """Whether some trial has finished with a value."""
    return any(trial.value is not None for trial in study.trials)


def one_value(override: Override) -> str:
    """An override of one value, as it is typed; `key=choice(1)` is one, too."""
    if not override.is_sweep_override():
        return str(override.input_line)
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def as_overrides(params: dict[str, Any]) -> list[str]:
    """A trial's settings as they are typed."""
    return [f"{key}={value}" for key, value in params.items()]


def distribution(override: Override) -> Any:
    """Optuna's distribution of a swept setting. Choices are kept as they are typed. Raises ZooError for an interval that is none."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    swept = override.value()
    if not isinstance(swept, IntervalSweep):
        values = list(override.sweep_string_iterator())
        if override.is_range_sweep() and len(values) > 1:
            steps = sorted(float(value) for value in values)
            if all(step.is_integer() for step in steps):
                return IntDistribution(int(steps[0]), int(steps[-1]), step=int(steps[1] - steps[0]))
            return FloatDistribution(steps[0], steps[-1], step=steps[1] - steps[0])
        return CategoricalDistribution(values)
    low, high, log = swept.start, swept.end, "log" in swept.tags
    if low is None or high is None or low > high or (log and low <= 0):
        raise ZooError(f"'{override.input_line}' is not an interval; give interval(low,high), low first{', above 0' if log else ''}.")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)
