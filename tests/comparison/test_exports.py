import csv
import io

import pytest
from rich.console import Console

from tests.comparison.runs import make_run
from zoo.comparison.collect import compare
from zoo.comparison.exports import write_csv, write_markdown
from zoo.comparison.terminal import show


@pytest.fixture
def comparison(tmp_path):
    """Three seeds of an AE, one of a VAE whose label holds what Markdown and rich would read as theirs, and a failed run."""
    for seed, frechet in enumerate((1.0, 1.5, 2.0)):
        metrics = {"samples/normal/frechet@2000": frechet, "samples/flow/frechet@2000": 2.0, "reconstructions/mse@2000": 0.25}
        make_run(tmp_path / f"ae{seed}", "ae", seed, metrics=metrics)
    metrics = {"samples/normal/frechet@2000": 9.0}
    make_run(tmp_path / "vae0", overrides="'model.net=[bold]|x'", metrics=metrics, net="[bold]|x", config={"max_images": 900})
    make_run(tmp_path / "vae1", seed=1, config={"logger": {"wandb": None}})
    (tmp_path / "vae1/job.json").write_text('{"status": "failed", "reason": "No [red] such | thing."}')
    return compare([tmp_path], command="python -m zoo.compare X")


def test_csv_has_every_number_of_every_row(comparison, tmp_path):
    write_csv(comparison, tmp_path / "compare.csv")
    rows = list(csv.DictReader((tmp_path / "compare.csv").read_text().splitlines()))
    found = {(row["row"], row["metric"]): (row["mean"], row["std"], row["n"], row["values"]) for row in rows}
    assert found["ae", "samples/normal/frechet"] == ("1.5", "0.5", "3", "1.0 1.5 2.0")
    assert found["vae net=[bold]|x", "samples/normal/frechet"] == ("9.0", "", "1", "9.0")
    assert found["ae", "best_prior/frechet"] == found["ae", "samples/normal/frechet"]
    assert found["ae", "cost/device_hours"] == ("0.5", "0.0", "3", "0.5 0.5 0.5")
    assert ("vae net=[bold]|x", "reconstructions/mse") not in found
    assert not any("accelerator" in metric for _, metric in found)


def test_markdown(comparison, tmp_path):
    write_markdown(comparison, tmp_path / "compare.md")
    lines = (tmp_path / "compare.md").read_text().splitlines()
    start = lines.index("## Samples")
    assert lines[start + 2 : start + 7] == [
        "| model | prior | n | Fréchet ↓ |",
        "| --- | --- | ---: | ---: |",
        "| ae | normal | 3 | **1.500 ± 0.500 \\*** |",
        "| ae | flow | 3 | 2.000 ± 0.000 ~ |",
        "| vae net=[bold]\\|x | normal | 1 | 9.000 (n = 1) |",
    ]
    assert "| model.net | – | [bold]\\|x |" in lines
    assert "| vae1 | failed | No [red] such \\| thing. |" in lines
    assert "- Sorted by Fréchet, best prior." in lines
    assert lines[-1] == "    python -m zoo.compare X"


@pytest.mark.parametrize("width", [60, 200])
def test_the_terminal_shows_all_of_it_at_any_width(comparison, width):
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    show(comparison, console)
    text = console.export_text()
    lines = text.splitlines()
    tables = [line for line in lines if line.startswith(("┃", "│", "┏", "└"))]
    assert max(map(len, tables)) <= width
    for part in (
        "1.500 ± 0.500 *",
        "2.000 ± 0.000 ~",
        "vae net=[bold]|x",
        "No [red] such |",
        "split val",
        "note: Sorted by",
        "mse ↓",
        "≥ 0.05",
    ):
        assert part in text
    assert ("Summary (continued)" in text) == (width == 60)


def test_no_finished_run_is_shown(tmp_path, capsys):
    make_run(tmp_path / "a")
    show(compare([tmp_path]))
    text = capsys.readouterr().out
    assert text.startswith("No finished run")
    assert "│ a   │ training │ 1,000 of 1,000 images │" in text
    assert "best" not in text
