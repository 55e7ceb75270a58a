"""metrics.csv of a run: one row per optimizer step, one column per metric, empty where a metric was not measured."""

import csv
import io
import math
from itertools import accumulate
from pathlib import Path

from zoo.files import write_atomically
from zoo.runs.layout import METRICS
from zoo.runs.run_folder import Notes, RunFolder


class MetricsCsv:
    """Writes the file. A resumed run goes on in the same one: rows after the checkpoint are dropped by `rewind`.

    Steps are numbered as Lightning numbers them: 0 is the first.

    Args:
        path: The file.
        batch_size: Images of a step.
        images_before: Images that earlier stages have seen.
    """

    def __init__(self, path: Path, batch_size: int, images_before: int = 0) -> None:
        self.path, self.batch_size, self.images_before = path, batch_size, images_before
        self.rows: dict[int, dict[str, str]] = {}
        self.columns: list[str] = ["step", "images_seen"]

    def rewind(self, steps: int) -> None:
        """Reads what an earlier session wrote, and drops what it wrote after so many steps."""
        if self.path.exists():
            with open(self.path, newline="") as file:
                reader = csv.DictReader(file)
                self.columns = list(reader.fieldnames or self.columns)
                whole = [row for row in reader if (row["step"] or "").isdigit() and None not in row.values()]  # the last may be torn
                rows = {int(row["step"]): {k: v for k, v in row.items() if v} for row in whole}
            self.rows = {step: row for step, row in rows.items() if step < steps}
            self._write_all()

    def append(self, step: int, metrics: dict[str, float]) -> None:
        """Enters metrics into the row of their step."""
        known = step in self.rows
        row = self.rows.setdefault(step, {})
        row |= {name: f"{value:.8g}" if isinstance(value, float) else str(value) for name, value in metrics.items()}
        row |= {"step": str(step), "images_seen": str(self.images_before + (step + 1) * self.batch_size)}
        new = [name for name in row if name not in self.columns]
        self.columns += new
        if new or known or not self.path.exists():
            self._write_all()
        else:
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    def _write_all(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows[step] for step in sorted(self.rows))
        write_atomically(self.path, text.getvalue())


def curves_of(folder: RunFolder, notes: Notes) -> dict[str, list[float]]:
    """metrics.csv by column, nan where nothing was measured, and `hours`; columns with fewer than two numbers are no curves.

    Hours are those of training: validation, pictures and checkpoints are not counted. Those of an earlier stage are.
    """
    path = folder.path / METRICS
    try:
        written = path.read_text(encoding="utf-8")
        header, *lines = csv.reader(written[: written.rfind("\n") + 1].splitlines())  # the last line may be torn: the run was writing it
        texts = {name: column for name, *column in zip(header, *lines, strict=True)}
        curve_names = {name for name, column in texts.items() if len(column) - column.count("") > 1} - {"step", "epoch"} | {"images_seen"}
        curves = {name: [float(text) if text else math.nan for text in texts[name]] for name in texts if name in curve_names}
        seen = curves["images_seen"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, OSError, csv.Error):
        notes.append(f"{folder.name}/metrics.csv is damaged and was left out.")
        return {}
    earlier = folder.summary.get("pretrain", {})
    rates = curves.get("train/images_per_second", [])
    if seen and (rate := next((rate for rate in rates if rate > 0), None)):
        hours, before = [earlier.get("train_hours", 0.0)], earlier.get("images_seen", 0)
        for images, now in zip(seen, rates, strict=True):
            rate = now if now > 0 else rate  # rows of validation alone have none
            hours.append((images - before) / rate / 3600)
            before = images
        curves["hours"] = list(accumulate(hours))[1:]
    return curves
