"""The comparison as one HTML file that needs nothing else: tables, charts, pictures, settings, jobs, commands.

The page is report.html (Jinja), with report.css, report.js and charts.js inside it; what the charts draw is computed here and goes
along as JSON. All text is escaped: labels come from the command line.
"""

import base64
import json
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from zoo.comparison.aggregate import select
from zoo.comparison.parts import Comparison, Entry, Row, Table
from zoo.comparison.series import curves
from zoo.files import write_atomically
from zoo.runs.measurements import Quantity

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
# How rows are drawn besides their eight colours: six dashes and eight markers, by Plotly's names and as paths, make 24 lines that differ.
SIGNS = {
    "dashes": ("solid", "7px 4px", "2px 3px", "10px 3px 2px 3px", "14px 5px", "5px 2px 2px 2px 2px 2px"),
    "symbols": ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "hourglass", "bowtie"),
    "paths": (
        *("M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0Z", "M-3.2,-3.2H3.2V3.2H-3.2Z", "M0,-4.2L4,3H-4Z", "M0,-4.6L4.6,0L0,4.6L-4.6,0Z"),
        *(
            "M0,4.2L4,-3H-4Z",
            "M-4,-1.3H-1.3V-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4Z",
            "M-3.5,-3.5H3.5L-3.5,3.5H3.5Z",
            "M-3.5,-3.5V3.5L3.5,-3.5V3.5Z",
        ),
    ),
}


def write_report(comparison: Comparison, path: Path) -> None:
    """Writes the page, whole; pictures that cannot be read are left out, and it says so."""
    write_atomically(path, render(comparison))


def render(comparison: Comparison) -> str:
    """The page as text."""
    from plotly.offline import get_plotlyjs

    kinds, damaged = image_files(comparison.rows)
    data = {"rows": [row.label for row in comparison.rows], "charts": charts(comparison), "curves": curves(comparison.rows), **SIGNS}
    data["costs"] = [cost for name in COSTS if (cost := cost_of(name, comparison))]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"lines": lines_of}
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
        signs=SIGNS,
        data=Markup(json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")),
        css=Markup((HERE / "report.css").read_text()),
        plotly=Markup(get_plotlyjs()),
        scripts=Markup("\n".join((HERE / name).read_text() for name in ("charts.js", "report.js"))),
    )


def lines_of(table: Table) -> list[tuple[tuple[str, ...], int, tuple[dict[str, Any], ...]]]:
    """The lines of a table: names, number of seeds, cells."""
    cells = [table.cells[column.header].to_dict("records") for column in table.columns]
    names = table.cells.index.to_frame().itertuples(index=False, name=None)
    return list(zip(names, table.counts, zip(*cells, strict=True), strict=True))


def charts(comparison: Comparison) -> list[dict[str, Any]]:
    """One chart of bars for each column that somebody has a number in: the cells of its table."""
    labels = [row.label for row in comparison.rows]
    found = []
    for table in comparison.tables:
        for column in table.columns:
            cells = table.cells[column.header].drop(columns="n")
            cells = cells[np.isfinite(cells["mean"])].astype(object)
            names = cells.index.to_frame()
            cells = cells.where(cells.notna(), None).assign(row=names.model.map(labels.index), label=names.agg(" · ".join, axis=1))
            chart = {"table": table.title, "title": column.title, "header": column.header, "better": column.better}
            if len(cells):
                found.append(
                    chart | {"digits": column.digits, "quality": column.quantity.group != "cost", "bars": cells.to_dict("records")}
                )
    return found


def cost_of(name: str, comparison: Comparison) -> dict[str, Any] | None:
    """What each row costs on the mean of its seeds, None where it is unknown; None if it is unknown of all."""
    title, better = COSTS[name]
    found = select(comparison.numbers, Quantity("cost", name))
    means = found[found.value > 0].groupby("row").value.mean()
    return {"title": title, "better": better, "values": [means.get(row.label) for row in comparison.rows]} if len(means) else None


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
