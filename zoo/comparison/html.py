"""The comparison as one HTML file that needs nothing else: tables, charts, pictures, settings, jobs, commands.

The page is report.html (Jinja), with report.css, report.js and charts.js inside it; what the charts draw is computed here and goes
along as JSON. All text is escaped: labels come from the command line.
"""

import base64
import json
import math
from datetime import datetime
from io import BytesIO
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from zoo.comparison.aggregate import numbers
from zoo.comparison.parts import Cell, Column, Comparison, Entry, Row
from zoo.comparison.series import curves
from zoo.files import write_atomically

HERE = Path(__file__).parent
IMAGE_BYTES, LARGEST_IMAGE = 9_000_000, 150_000  # of all pictures and of one, before base64 adds a third
QUALITIES = (95, 90, 80, 70, 60, 45, 30)  # of WebP, tried in this order; 95 is 40 dB and more above its error
# The kinds of pictures, in order: name -> (title, what is seen).
KINDS = {
    "samples": ("Samples", "Drawn from each model’s prior with the same seed."),
    "reconstructions": ("Reconstructions", "Rows in pairs: originals, the same for all models, and below them what became of them."),
    "interpolations": ("Interpolations", "First and last column: originals. Between them: decoded codes on the way from one to the other."),
    "edits": ("Attribute edits", "The same images with an attribute taken away or added."),
    "transfer": ("Transfer", "Each column’s image (top) with the attribute of each row’s image (left)."),
}
# What training costs, of an entry's cost: name -> (title, what is better).
COSTS = {
    "device_hours": ("hours × devices", "low"),
    "images_per_second": ("training images per second", "high"),
    "parameters": ("parameters", "low"),
}
SYMBOLS = {"failed": "✕", "interrupted": "‖", "training": "▸", "finished": "✓"}


def write_report(comparison: Comparison, path: Path) -> None:
    """Writes the page, whole; pictures that cannot be read are left out, and it says so."""
    write_atomically(path, render(comparison))


def render(comparison: Comparison) -> str:
    """The page as text."""
    kinds, damaged = image_files(comparison.rows)
    data = {"rows": [row.label for row in comparison.rows], "charts": charts(comparison), "curves": curves(comparison.rows)}
    data["costs"] = [cost for name in COSTS if (cost := cost_of(name, comparison.rows))]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "count": count_of, "sort_key": sort_key}
    environment.globals["zip"] = zip
    return environment.get_template("report.html").render(
        comparison=comparison,
        notes=[*comparison.notes, *(f"The picture {path} cannot be read and is left out." for path in damaged)],
        written=datetime.now().astimezone(),
        kinds=kinds,
        seeds=sorted({entry.seed for kind in kinds for _, entry, _ in kind["images"]}),
        runs=[(row, [run_of(entry) for entry in row.entries]) for row in comparison.rows],
        has=data,
        symbols=SYMBOLS,
        data=Markup(json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")),
        css=Markup((HERE / "report.css").read_text()),
        scripts=Markup("\n".join((HERE / name).read_text() for name in ("charts.js", "report.js"))),
    )


def charts(comparison: Comparison) -> list[dict[str, Any]]:
    """One chart of bars for each column that somebody has a number in: the numbers of the tables, and each seed's."""
    labels = [row.label for row in comparison.rows]
    found = []
    for table in comparison.tables:
        for k, column in enumerate(table.columns):
            bars = [
                bar(comparison.rows, labels.index(names[0]), dict(zip(table.keys, names, strict=True)), column, cell)
                for names, cells in zip(table.names, table.cells, strict=True)
                if (cell := cells[k]) is not None and math.isfinite(cell.mean) and names[0] in labels
            ]
            if bars:
                chart = {"table": table.title, "title": column.title, "header": column.header, "better": column.better}
                found.append(chart | {"digits": column.digits, "quality": column.quantity.group != "cost", "bars": bars})
    return found


def bar(rows: list[Row], index: int, names: dict[str, str], column: Column, cell: Cell) -> dict[str, Any]:
    """A number of a line of a table, as a chart draws it; dots only where there is more than one seed."""
    values = numbers(rows[index], column, names.get("prior"))
    seeds = [value * column.factor for value in values if math.isfinite(value)]
    deviation = cell.deviation if cell.deviation is not None and math.isfinite(cell.deviation) else None
    return {
        "row": index,
        "label": " · ".join(names.values()),
        "mean": cell.mean,
        "deviation": deviation,
        "distance": cell.distance,
        "text": cell.text,
        "mark": cell.mark,
        "seeds": seeds if len(seeds) > 1 else [],
    }


def cost_of(name: str, rows: list[Row]) -> dict[str, Any] | None:
    """What each row costs on the mean of its seeds, None where it is unknown; None if it is unknown of all."""
    title, better = COSTS[name]
    values = [mean(found) if (found := [value for value in row.costs(name) if value > 0]) else None for row in rows]
    return {"title": title, "better": better, "values": values} if any(values) else None


def image_files(rows: list[Row]) -> tuple[list[dict[str, Any]], list[Path]]:
    """The kinds of pictures that there are, each with (index of the row, run, picture), and the files that cannot be read."""
    wanted: dict[str, list[tuple[int, Entry]]] = {}
    for k, row in enumerate(rows):
        for entry in row.entries:
            for name in entry.image_files:
                wanted.setdefault(name, []).append((k, entry))
    most = min(LARGEST_IMAGE, IMAGE_BYTES // max(1, sum(map(len, wanted.values()))))
    kinds, damaged = [], []
    for name in sorted(wanted, key=lambda name: (list(KINDS).index(name) if name in KINDS else len(KINDS), name)):
        images = []
        for k, entry in wanted[name]:
            if image := embedded(entry.image_files[name], most):
                images.append((k, entry, image))
            else:
                damaged.append(entry.image_files[name])
        title, caption = KINDS.get(name, (name.replace("-", " ").capitalize(), ""))
        if images:
            kinds.append({"name": name, "title": title, "caption": caption, "images": images})
    return kinds, damaged


class EmbeddedImage(NamedTuple):
    """What an <img> needs."""

    url: str  # data:image/…;base64,…
    width: int  # pixels
    height: int


def embedded(path: Path, most: int) -> EmbeddedImage | None:
    """A picture of at most `most` bytes (before base64), without loss where that is small enough, otherwise as WebP of the best quality
    that fits, or of the lowest one; None if the file cannot be read."""
    try:
        data = path.read_bytes()
        image = Image.open(BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow raises for damaged files
        return None

    def webp(**options: int) -> bytes:
        buffer = BytesIO()
        image.save(buffer, "WEBP", **options)
        return buffer.getvalue()

    kind = "png"
    if len(data) <= 1.5 * most and len(lossless := webp(lossless=True, method=0)) < len(data):  # saves a third at most
        kind, data = "webp", lossless
    for quality in QUALITIES:
        if len(data) <= most:
            break
        kind, data = "webp", webp(quality=quality, method=2)
    return EmbeddedImage(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *image.size)


def run_of(entry: Entry) -> dict[str, str]:
    """Where a run's numbers come from, as text."""
    cost, versions = entry.cost, entry.versions
    facts = {
        "images seen": count_of(cost["images_seen"]) if "images_seen" in cost else "",
        "hours × devices": duration(cost["device_hours"]) if "device_hours" in cost else "",
        "images/s": count_of(cost["images_per_second"]) if cost.get("images_per_second") else "",
        "peak memory": f"{cost['peak_memory_mib'] / 1024:.1f} GiB" if cost.get("peak_memory_mib") else "",
        "machine": str(cost.get("machine") or (f"{cost.get('devices', 1)} × {cost['accelerator']}" if cost.get("accelerator") else "")),
    }
    names = ("commit", "zoo", "torch", "pytorch-lightning")
    software = [f"{name} {versions[name]}" for name in (*names, *sorted(set(versions) - set(names))) if name in versions]
    return {key: value for key, value in facts.items() if value} | {"software": ", ".join(software)}


def duration(hours: float) -> str:
    """ "42 s", "5.1 min" or "7.3 h"."""
    seconds = hours * 3600
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min" if seconds < 3600 else f"{hours:,.1f} h"


def count_of(value: float) -> str:
    """ "1,646,307" or "60.98"."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.4g}"


def sort_key(cell: Cell | None) -> str:
    """What a cell is sorted by: its mean, or how far its seeds are from the value to come near; empty where there is none."""
    if cell is None or not math.isfinite(cell.mean):
        return ""
    return repr(cell.mean if cell.distance is None else cell.distance)
