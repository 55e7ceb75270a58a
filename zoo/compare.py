"""Compares runs: puts seeds together, marks the best and what cannot be told from it, and refuses what is not comparable.

    python -m zoo.compare runs/sweeps/…                    # runs, sweeps, or any folder above them
    python -m zoo.compare latest sort=mse                  # the newest sweep
    python -m zoo.compare RUN RUN baseline=zoo             # beside the zoo's published numbers

Prints tables and writes compare.csv, compare.md and report.html, one file that opens without network.
"""

import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from zoo.config.app import run_command
from zoo.config.check import check
from zoo.config.overrides import quoted
from zoo.config.schema import CompareSettings
from zoo.files import output_folder
from zoo.runs.find import common, named
from zoo.runs.wandb_files import shown_path

WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--info", "-i")


def main() -> None:
    """The command line's entry."""
    name_runs(sys.argv)
    run_command(run, "compare")


def name_runs(argv: list[str]) -> None:
    """Arguments that are paths become `runs=[…]`, as Hydra takes it. A path may hold a "=", as the folders of a sweep do."""
    arguments: list[str] = []
    paths: list[str] = []
    before = ""
    for argument in argv[1:]:
        is_path = not argument.startswith("-") and before not in WITH_VALUE and ("=" not in argument or Path(argument).exists())
        (paths if is_path else arguments).append(argument)
        before = argument
    if paths:
        argv[1:] = [*arguments, f"runs=[{','.join(map(quoted, paths))}]"]


def run(config: DictConfig) -> None:
    """Compares, prints and writes."""
    settings = check(config, CompareSettings)
    from zoo.comparison.collect import compare  # pandas, only for settings that are good
    from zoo.comparison.exports import write_csv, write_markdown
    from zoo.comparison.terminal import show

    paths = [settings.runs] if isinstance(settings.runs, str) else settings.runs or []
    others = [override for override in HydraConfig.get().overrides.task if not override.startswith("runs=")]
    command = shlex.join(["python", "-m", "zoo.compare", *paths, *others])
    folders = named(paths)
    comparison = compare(folders, settings.split, settings.baseline, settings.sort, settings.force, command)
    out = output_folder(settings.out, folder_for(folders))
    out.mkdir(parents=True, exist_ok=True)
    show(comparison)
    write_csv(comparison, out / "compare.csv")
    write_markdown(comparison, out / "compare.md")
    written = {"numbers": "compare.csv", "tables": "compare.md"}
    if settings.report:
        from zoo.comparison.html import write_report

        write_report(comparison, out / "report.html")
        written["report"] = "report.html"
    for what, where in written.items():
        print(f"{what + ':':10} {shown_path(out) / where}")
    if settings.dashboard is not None:
        from zoo.comparison.dashboard import dashboard

        print(f"dashboard: {dashboard(comparison, out)}")


def folder_for(folders: list[Path]) -> Path:
    """Where the comparison of these goes: what they all lie in, if it was named or lies below the working folder, else the latter."""
    above = common(folders)
    fits = above in [folder.resolve() for folder in folders] or above.is_relative_to(Path.cwd())
    return above if fits else Path.cwd()


if __name__ == "__main__":
    main()
