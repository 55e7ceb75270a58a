"""The comparison as one HTML file that needs nothing else: tables, charts, pictures, settings, jobs, commands.

The page is report.html (Jinja), with report.css, Plotly, report.js and charts.js inside it; what the charts draw is computed here and goes
along as JSON. All text is escaped: labels come from the command line.
"""

import base64
import json
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

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
# What training costs: name -> (title, what is better).
COSTS = {
    "device_hours": ("hours × devices", "low"),
    "images_per_second": ("training images per second", "high"),
    "parameters": ("parameters", "low"),
}


def write_report(comparison: Comparison, path: Path) -> None:
    """Writes the page, whole; pictures that cannot be read are left out, and it says so."""
    write_atomically(path, render(comparison))


def render(comparison: Comparison) -> str:
    """The page as text."""
    from plotly.offline import get_plotlyjs

    kinds, damaged = image_files(comparison.rows)
    data = {"rows": [row.label for row in comparison.rows], "charts": charts(comparison), "curves": curves(comparison.rows)}
    data["costs"] = costs(comparison)
    blocks: Any = {"trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, **blocks)
    environment.filters |= {"lines": lines_of, "zip": lambda one, other: list(zip(one, other, strict=True))}
    return environment.get_template("report.html").render(
        comparison=comparison,
        notes=[*comparison.notes, *(f"The picture {path} cannot be read and is left out." for path in damaged)],
        written=datetime.now().astimezone(),
        kinds=kinds,
        seeds=sorted({seed for kind in kinds for _, seed, _ in kind["images"]}),
        runs=[(row, [facts_of(entry) for entry in row.entries]) for row in comparison.rows],
        has=data,
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
    for table, column in ((one, column) for one in comparison.tables for column in one.columns):
        cells = table.cells[column.header].drop(columns="n")
        cells = cells[np.isfinite(cells["mean"])].astype(object)
        names = cells.index.to_frame()
        cells = cells.where(cells.notna(), None).assign(row=names.model.map(labels.index), label=names.agg(" · ".join, axis=1))
        about = {"table": table.title, "title": column.title, "header": column.header, "better": column.better, "digits": column.digits}
        if len(cells):
            found.append(about | {"quality": column.quantity.group != "cost", "bars": cells.to_dict("records")})
    return found


def costs(comparison: Comparison) -> list[dict[str, Any]]:
    """What each row costs on the mean of its seeds, None where it is unknown; without what is unknown of all."""
    found = []
    for name, (title, better) in COSTS.items():
        numbers = select(comparison.numbers, Quantity("cost", name))
        means = numbers[numbers.value > 0].groupby("row").value.mean()
        if len(means):
            found.append({"title": title, "better": better, "values": [means.get(row.label) for row in comparison.rows]})
    return found


def image_files(rows: list[Row]) -> tuple[list[dict[str, Any]], list[Path]]:
    """The kinds of pictures that there are, each with (index of the row, seed, picture), and the files that cannot be read."""
    wanted = [
        (name, k, entry.seed, path) for k, row in enumerate(rows) for entry in row.entries for name, path in entry.image_files.items()
    ]
    most = min(LARGEST_IMAGE, IMAGE_BYTES // max(1, len(wanted)))
    kinds, damaged = [], []
    names = {name for name, *_ in wanted}
    for name in (*(name for name in KINDS if name in names), *sorted(names - KINDS.keys())):
        images = [(k, seed, path, embedded(path, most)) for kind, k, seed, path in wanted if kind == name]
        damaged += [path for _, _, path, image in images if not image]
        title, caption = KINDS.get(name, (name.replace("-", " ").capitalize(), ""))
        if readable := [(k, seed, image) for k, seed, _, image in images if image]:
            kinds.append({"name": name, "title": title, "caption": caption, "images": readable})
    return kinds, damaged


def embedded(path: Path, most: int) -> dict[str, Any]:
    """What an <img> needs, url, width and height, of a picture of at most `most` bytes (before base64): without loss where that is small
    enough, otherwise as WebP of the best quality that fits, or of the lowest one; {} if the file cannot be read."""
    try:
        data = path.read_bytes()
        image = Image.open(BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow raises for damaged files
        return {}

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
    return {"url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}", "width": image.width, "height": image.height}


def facts_of(entry: Entry) -> dict[str, Any]:
    """Where a run's numbers come from, as text; "" where it is not known."""
    cost, versions = entry.cost, entry.versions
    names = ("commit", "zoo", "torch", "pytorch-lightning")
    return {
        "seed": entry.seed,
        "images seen": count_of(cost["images_seen"]) if "images_seen" in cost else "",
        "hours × devices": duration(cost["device_hours"]) if "device_hours" in cost else "",
        "images/s": count_of(cost["images_per_second"]) if cost.get("images_per_second") else "",
        "peak memory": f"{cost['peak_memory_mib'] / 1024:.1f} GiB" if cost.get("peak_memory_mib") else "",
        "machine": str(cost.get("machine") or (f"{cost.get('devices', 1)} × {cost['accelerator']}" if cost.get("accelerator") else "")),
        "software": ", ".join(f"{name} {versions[name]}" for name in (*names, *sorted({*versions} - {*names})) if name in versions),
        "folder" if entry.folder else "from": entry.name,
    }


def duration(hours: float) -> str:
    """ "42 s", "5.1 min" or "7.3 h"."""
    seconds = hours * 3600
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min" if seconds < 3600 else f"{hours:,.1f} h"


def count_of(value: float) -> str:
    """ "1,646,307" or "60.98"."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.4g}"
