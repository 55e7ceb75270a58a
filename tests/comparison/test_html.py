"""The report: one valid file that needs nothing else, shows the comparison's numbers, and works in a browser."""

import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from pandas import DataFrame
from PIL import Image

from tests.comparison import toys
from tests.comparison.chromium import FOUND, Chromium
from tests.comparison.runs import seeds
from zoo.comparison.aggregate import numbers_of, table
from zoo.comparison.html import IMAGE_BYTES, charts, render, write_report
from zoo.comparison.parts import Column, Comparison, Entry, Row
from zoo.runs.measurements import Quantity

EVIL = "</script><script>hacked=1</script>\"'><img src=x onerror=hacked=1>"
VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """Elements of a page in order, as (tag, attributes, text); open and close tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))
        assert len(dict(attributes)) == len(attributes), f"twice the same attribute: {tag} {attributes}"
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data):
        for k in self.open:
            self.elements[k][2].append(data)

    def all(self, *tags: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attributes, "".join(text)) for tag, attributes, text in self.elements if tag in tags]

    def data(self) -> dict:
        return json.loads(next(text for attributes, text in self.all("script") if attributes.get("id") == "data"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Comparison:
    """Eight models (one cannot reconstruct) in two seeds, with small pictures."""
    return toys.comparison(tmp_path_factory.mktemp("toys"), (*toys.MODELS[:6], "two_stage", "gan"), (0, 1), size=12)


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(made, path)
    return path


@pytest.fixture(scope="module")
def page(path) -> Page:
    return Page(path.read_text())


def test_html_is_valid(page):
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    for _, attributes, _ in page.elements:
        named = [attributes.get(name) for name in ("aria-labelledby", "aria-describedby", "for")] + [
            (attributes.get("href") or "").removeprefix("#")
        ]
        assert all(name in ids for name in named if name and not name.startswith("data:")), attributes
    assert all(attributes.get("alt") for attributes, _ in page.all("img") if attributes.get("id") != "large-image")
    assert [tag for tag, _, _ in page.elements].count("h1") == 1
    sections = [attributes["id"] for attributes, _ in page.all("section")]
    assert sections == ["tables", "bars", "curves", "cost", "pictures", "settings", "jobs", "runs"]
    scripted = [attributes["id"] for attributes, _ in page.all("section") if attributes.get("class") == "when-js"]
    assert scripted == ["bars", "curves", "cost"]  # what is empty without the script is not there without it
    assert [text for attributes, text in page.all("legend") if attributes.get("class") != "unseen"] == ["seed"]


def test_nothing_lies_outside_of_the_file(page, path):
    for tag, attributes, _ in page.elements:
        for name in ("src", "href", "data-src", "srcset", "action", "poster"):
            assert re.match("data:|#", attributes.get(name) or "#"), (tag, attributes)
    styles = "".join(text for _, text in page.all("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    policy = next(attributes["content"] for attributes, _ in page.all("meta") if attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    own = page.all("script")[-1][1]  # the one before it is Plotly; that neither asks for anything is seen in the browser, below
    assert "barChart" in own
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(", own)


def test_tables_show_the_numbers_of_the_comparison(page, made):
    seen = [(attributes.get("data-sort"), text) for attributes, text in page.all("td") if "data-sort" in attributes]
    expected = []
    for one in made.tables:
        for (_, line), n in zip(one.cells.iterrows(), one.counts, strict=True):
            expected.append((str(n), str(n)))
            for column in one.columns:
                cell = line[column.header]
                mark = {"best": "★ best, ", "noise": "≈ within noise of the best, ", "": ""}[cell.mark]
                expected.append((repr(float(cell.sort_by)), mark + cell.text) if cell.text else ("", "–"))
    assert [(key, re.sub(r"\s+", " ", text).strip()) for key, text in seen] == expected
    assert any(key == "" for key, _ in seen)


def test_what_is_to_come_near_a_value_is_sorted_by_the_mean_distance_of_the_seeds(tmp_path):
    made = toys.near_and_far(tmp_path)
    samples, models = made.tables
    keys = [float(attributes["data-sort"]) for attributes, _ in Page(render(made)).all("td") if "data-sort" in attributes][1 : 2 * 6 : 2]
    assert keys == pytest.approx([0.5, 0.09, 0.3, 0.1, 0.4, 0.15])  # the first has the mean 1
    cells = samples.cells["sharpness → 1"]
    assert list(cells.sort_by) == keys
    assert list(cells.mark).index("best") == keys.index(min(keys))
    assert all((models.cells[column.header].sort_by == models.cells[column.header]["mean"]).all() for column in models.columns)


def test_bars_are_the_cells_and_the_seeds(page, made):
    chart = next(chart for chart in page.data()["charts"] if chart["title"] == "kernel distance × 10³")
    assert [bar["label"] for bar in chart["bars"][:2]] == ["ae · normal", "ae · flow"]
    cells = made.tables[0].cells["kernel distance × 10³ ↓"]
    assert [bar["mean"] for bar in chart["bars"]] == list(cells["mean"])
    assert [bar["std"] for bar in chart["bars"]] == list(cells["std"])
    for bar in chart["bars"]:
        assert np.mean(bar["values"]) == pytest.approx(bar["mean"])  # the factor 1000 is in both
        assert np.std(bar["values"], ddof=1) == pytest.approx(bar["std"])
    psnr = next(chart for chart in page.data()["charts"] if chart["title"] == "psnr, dB")
    assert "gan" not in [bar["label"] for bar in psnr["bars"]]


def test_bars_of_costs_and_of_one_seed():
    mse, psnr = Quantity("", "mse"), Quantity("", "psnr")
    entry = Entry(None, "run", "finished", cost={"device_hours": 0.5}, metrics={mse: float("nan"), psnr: 20.0})
    columns = [Column("hours", Quantity("cost", "device_hours"), "low"), Column("mse", mse), Column("psnr", psnr)]
    rows = [Row("ae", [entry, replace(entry, seed=1, cost={"device_hours": 1.5}, metrics={})])]
    numbers = numbers_of(rows)
    made = Comparison("", rows, numbers, [table("all", columns, numbers)], [], {}, DataFrame(index=["ae"]), [], "")
    found = charts(made)
    assert [(chart["title"], chart["bars"][0]["values"], chart["bars"][0]["std"]) for chart in found] == [
        ("hours", [0.5, 1.5], pytest.approx(0.5**0.5)),
        ("psnr", [20.0], None),
    ]  # nan is no bar
    assert [chart["quality"] for chart in found] == [False, True]


def test_pictures_decode(page, made):
    images = [attributes for attributes, _ in page.all("img") if attributes.get("id") != "large-image"]
    wanted = [path for row in made.rows for entry in row.entries for path in entry.image_files.values()]
    assert len(images) == len(wanted) > 50
    originals = {path.read_bytes(): np.asarray(Image.open(path)) for path in wanted}
    assert {attributes["class"] for attributes in images} == {"small"}  # shown in squares, not blurred
    seen = []
    for attributes in images:
        kind, data = (attributes.get("src") or attributes["data-src"]).split(";base64,")
        image = Image.open(BytesIO(base64.b64decode(data)))
        assert kind == f"data:image/{image.format.lower()}"
        assert image.size == (int(attributes["width"]), int(attributes["height"]))
        seen.append(np.asarray(image.convert("RGB")))
    exact = sum(any(image.shape == other.shape and (image == other).all() for other in originals.values()) for image in seen)
    assert exact == len(seen)  # such small ones lose nothing
    figures = [figure for figure, _ in page.all("figure") if "hidden" not in figure]
    assert {(figure["data-kind"], figure["data-seed"]) for figure in figures} == {("samples", "0")}
    assert [int(figure["data-row"]) for figure in figures] == list(range(8))
    assert all(
        ("src" in attributes) == (attributes in images[: 2 * 8 : 2]) for attributes in images
    )  # the rest is loaded when it is wanted


def test_21_runs_leave_room_for_their_pictures(tmp_path):
    models = [f"vae beta={k}" for k in range(21)]
    made = toys.comparison(tmp_path, models, (0,), image_files=(), points=1000)
    assert len(render(made)) < 20e6 - IMAGE_BYTES * 4 / 3


def test_a_damaged_picture_is_named_and_left_out(made, tmp_path):
    (tmp_path / "cut.png").write_bytes(made.rows[0].entries[0].image_files["samples"].read_bytes()[:500])
    row = Row("ae", [replace(made.rows[0].entries[0], image_files={"samples": tmp_path / "cut.png", "edits": tmp_path / "none.png"})])
    page = Page(render(replace(made, rows=[row], tables=[], differing=DataFrame())))
    notes = [text for attributes, text in page.all("li")]
    assert [note for note in notes if "cannot be read" in note] == [
        f"The picture {tmp_path / name} cannot be read and is left out." for name in ("cut.png", "none.png")
    ]
    assert "pictures" not in [attributes["id"] for attributes, _ in page.all("section")]


def test_text_of_users_is_inert(made):
    page = Page(render(evil(made)))
    assert len(page.all("script")) == 4
    assert not [attributes for attributes, _ in page.all("img") if attributes.get("src") == "x"]
    assert not [attributes for _, attributes, _ in page.elements for name in attributes if name.startswith("on")]
    assert page.data()["rows"][0] == EVIL
    assert [text for _, text in page.all("h1")] == [EVIL]
    assert any(EVIL in attributes["alt"] for attributes, _ in page.all("img"))


def evil(made: Comparison) -> Comparison:
    """The comparison with markup wherever text may come from a user."""
    rows = [
        replace(made.rows[0], label=EVIL, entries=[replace(made.rows[0].entries[0], command=EVIL, name=EVIL, versions={"commit": EVIL})])
    ]
    numbers = numbers_of(rows)
    tables = [table(EVIL, one.columns, numbers) for one in made.tables]
    others = [Entry(None, EVIL, "failed", EVIL)]
    return replace(
        made,
        title=EVIL,
        rows=rows,
        numbers=numbers,
        tables=tables,
        others=others,
        notes=[EVIL],
        protocol={EVIL: EVIL},
        differing=DataFrame({EVIL: [EVIL]}, index=[EVIL]),
        command=EVIL,
    )


def test_without_a_finished_run(made):
    page = Page(render(replace(made, rows=[], tables=[], differing=DataFrame())))
    assert [attributes["id"] for attributes, _ in page.all("section")] == ["jobs"]
    assert any("No run is finished yet." in text for _, text in page.all("p"))
    assert [text.split()[1] for attributes, text in page.all("td") if "state" in attributes.get("class", "")] == [
        "failed",
        "interrupted",
        "training",
    ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if FOUND is None:
        pytest.skip("needs Chromium, which is not installed here")
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def errors(browser: Chromium) -> list[dict]:
    return [
        event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    ]


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(browser, path, width):
    browser.open(path, width)
    assert 0 < browser.seconds() <= 2
    assert errors(browser) == []
    requests = [event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(
        "[...document.querySelectorAll('.scroll, .chart, figure')].every((one) => one.getBoundingClientRect().right <= innerWidth)"
    )
    assert browser.run("document.querySelectorAll('#bars-chart .bars .point').length") == 16
    assert browser.run("find('curves-chart').data.filter((trace) => trace.mode === 'lines+markers').length") == 8
    assert browser.run("document.querySelectorAll('#curves-chart .lines .js-line').length") == 16  # and the bands
    assert browser.run("document.querySelectorAll('#cost-chart .points .point').length") == 8
    options = "[...document.querySelectorAll('#cost-metric option')].map((option) => option.text)"
    assert browser.run(options) == ["Fréchet ↓", "kernel distance × 10³ ↓", "sharpness → 1", "mse ↓", "psnr, dB ↑"]  # hours are no quality
    inside = "(svg) => [...svg.querySelectorAll('text')].every((text) => text.getBoundingClientRect().right <= innerWidth + 1)"
    assert browser.run(f"[...document.querySelectorAll('.chart svg')].every({inside})")
    image = np.asarray(Image.open(BytesIO(browser.screenshot())).convert("RGB"))
    assert image.shape == (900, width, 3)
    assert len(np.unique(image @ [65536, 256, 1])) > 50
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.resolve_config()
    dark = np.asarray(Image.open(BytesIO(browser.screenshot())).convert("RGB"))
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert np.median(image) > 230
    assert np.median(dark) < 50
    assert errors(browser) == []


def test_sorting_by_click_and_by_key(browser, path, made):
    browser.open(path, 1280)
    names = "[...document.querySelectorAll('table')[1].tBodies[0].rows].map((row) => row.cells[0].textContent.trim())"
    heading = "document.querySelectorAll('table')[1].querySelectorAll('thead th')[3]"
    psnr = Quantity("reconstructions", "psnr")
    numbers = {row.label: np.mean(seeds(row, psnr)) for row in made.rows if seeds(row, psnr)}
    down = sorted(numbers, key=numbers.__getitem__, reverse=True)
    browser.click(f"{heading}.firstChild")
    assert browser.run(names) == [*down, "gan"]  # the best first, who has none last
    assert browser.run(f"{heading}.getAttribute('aria-sort')") == "descending"
    browser.press("Enter")
    assert browser.run(names) == [*down[::-1], "gan"]
    assert browser.run(f"{heading}.getAttribute('aria-sort')") == "ascending"
    browser.click("document.querySelectorAll('table')[1].querySelector('thead th button')")
    assert browser.run(names) == sorted([*numbers, "gan"])
    assert browser.run(f"{heading}.getAttribute('aria-sort')") == "none"


def test_switches(browser, path):
    browser.open(path, 1280)
    seen = "figure.offsetWidth && figure.querySelector('img').naturalWidth"
    about = "[figure.dataset.kind, figure.dataset.seed, Number(figure.dataset.row)]"
    figures = f"[...document.querySelectorAll('figure')].filter((figure) => {seen}).map((figure) => {about})"
    assert browser.run(figures) == [["samples", "0", row] for row in range(8)]
    browser.click("document.querySelectorAll('#pictures-kind label')[1]")
    browser.click("document.querySelectorAll('#pictures-seed label')[1]")
    browser.run("Promise.all([...document.images].map((image) => image.decode().catch(() => 0)))")
    assert browser.run(figures) == [["reconstructions", "1", row] for row in range(7)]
    assert browser.run("document.querySelector('#absent').textContent") == "No such picture of gan."
    browser.click("document.querySelectorAll('#curves .legend button')[2]")
    assert browser.run("find('curves-chart').data.filter((trace) => trace.mode === 'lines+markers').length") == 7
    assert browser.run("document.querySelectorAll('#bars-chart .bars .point').length") == 14
    assert browser.run("document.querySelectorAll('#pictures .legend button')[2].getAttribute('aria-pressed')") == "false"
    assert 2 not in [row for *_, row in browser.run(figures)]
    path_of = "document.querySelector('#curves-chart .lines .js-line').getAttribute('d')"
    before = browser.run(path_of)
    browser.click("document.querySelectorAll('#curves-axis label')[1]")
    hours = browser.run(path_of)
    browser.click("document.querySelector('#curves-log')")
    assert len({before, hours, browser.run(path_of)}) == 3
    browser.click("document.querySelector('.gallery figure:not([hidden]) button')")
    assert browser.run("document.querySelector('dialog').open && document.querySelector('#large-name').textContent.trim()") == "ae"
    browser.press("ArrowRight")
    assert browser.run("document.querySelector('#large-name').textContent.trim()") == "vae"
    browser.press("Escape")
    assert not browser.run("document.querySelector('dialog').open")
    assert errors(browser) == []


def test_charts_have_the_colours_of_the_theme(browser, path):
    def colours() -> tuple[str, str]:
        look = "getComputedStyle(document.querySelector('#bars-chart .bars path')).fill"
        return browser.run("getComputedStyle(document.body).backgroundColor"), browser.run(look)

    browser.open(path, 1280)
    paper = "find('bars-chart').layout.paper_bgcolor"
    light = colours()
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.resolve_config()
    dark = colours()
    assert browser.run(paper) == dark[0]
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    browser.click("document.querySelector('#theme')")
    assert (colours(), browser.run(paper)) == (light, light[0])  # what is chosen goes before what the system says
    browser.click("document.querySelector('#theme')")
    assert browser.run(paper) == dark[0]
    browser.run("dispatchEvent(new Event('beforeprint'))")  # paper is white, and narrow
    assert browser.run(paper) == light[0]
    assert browser.run("find('bars-chart').layout.width") <= 704
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert (browser.run(paper), browser.run("find('bars-chart').layout.width > 704")) == (dark[0], True)
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert errors(browser) == []


POINTS = """find('cost-chart').data.filter((trace) => trace.mode === 'markers').map(({ meta, marker, x, y }) => {
    const look = marker.color === color(meta) ? "filled" : marker.color === css("page") ? "hollow" : marker.color;
    return [meta, look, x[0], y[0]];
})"""


def test_the_pareto_front(browser, tmp_path):
    made = toys.near_and_far(tmp_path)
    write_report(made, tmp_path / "report.html")
    browser.open(tmp_path / "report.html", 1280)
    names = {k: row.label for k, row in enumerate(made.rows)}

    def front(metric: str, cost: str) -> list[str]:
        """The models whose points are filled, from left to right; the dashed line must join just these."""
        for select, title in (("cost-metric", metric), ("cost-axis", cost)):
            browser.run(f"[...find('{select}').options].find((option) => option.text === '{title}').selected = true")
        browser.run("DRAWN.cost()")
        points = browser.run(POINTS)
        assert sorted(names[row] for row, *_ in points) == sorted(names.values())
        assert {look for _, look, *_ in points} == {"filled", "hollow"}
        filled = sorted((x, y, names[row]) for row, look, x, y in points if look == "filled")
        line = browser.run("find('cost-chart').data[0]")
        assert (line["x"], line["y"]) == ([x for x, _, _ in filled], [y for _, y, _ in filled])
        return [name for *_, name in filled]

    # Distances of sharpness: near 0.09, dear 0.1, both 0.15 (by its flow), above 0.3, wild 0.5 although its mean is 1.
    assert front("sharpness → 1", "hours × devices") == ["above", "both", "near"]
    assert front("sharpness → 1", "training images per second") == ["near"]
    assert front("mse ↓", "hours × devices") == ["above", "wild", "dear"]
    assert front("mse ↓", "training images per second") == ["dear"]  # near is as fast, and worse
    assert front("psnr, dB ↑", "hours × devices") == ["above", "near"]  # wild and dear are as good as these, and cost more
    browser.click("document.querySelectorAll('#cost .legend button')[2]")
    names.pop(2)
    assert front("sharpness → 1", "hours × devices") == ["wild", "both", "near"]  # without above
    browser.click("document.querySelectorAll('#cost .legend button')[2]")
    bars = "find('bars-chart').data[0].meta"
    names[2] = "above"
    assert [names[row] for row in browser.run(bars)] == ["near", "dear", "both", "above", "both", "wild"]
    heading = "document.querySelector('table').querySelectorAll('thead th button')[3]"
    browser.click(heading)
    rows = "[...document.querySelector('table').tBodies[0].rows].map((row) => row.cells[0].textContent.trim())"
    assert browser.run(rows) == ["near", "dear", "both", "above", "both", "wild"]


def test_errors_of_rounding_do_not_press_a_logarithmic_curve_together(browser, path):
    browser.open(path, 1280)
    lines = "[{row: 0, images: [1, 2], mean: [1e-14, 2e-14]}, {row: 1, images: [1, 2], mean: [0.1, 0.001]}]"
    browser.run(f"lineChart(find('curves-chart'), {{name: 'mse', lines: {lines}}}, ['exact', 'other'], 'images', true)")
    path_of = "[...document.querySelectorAll('#curves-chart .js-line')].map((line) => line.getAttribute('d'))"
    exact, other = ([float(place.split(",")[1]) for place in path.strip("M").split("L")] for path in browser.run(path_of))
    assert exact[0] == exact[1] > other[1] > other[0]
    assert (other[1] - other[0]) / (exact[0] - other[0]) == pytest.approx(2 / 5, abs=0.01)  # decades
    assert "what is below 0.000001 lies on the edge" in browser.run("find('curves-chart').textContent")


def test_name_and_n_stay_in_sight_on_a_phone(browser, path):
    browser.open(path, 390)
    cells = "[...table.tBodies[0].rows[0].cells].map((cell) => cell.getBoundingClientRect()).filter((box) => box.width)"
    ends = f"[...document.querySelectorAll('.sortable')].map((table) => {cells}.map((box) => [box.left, box.right]))"
    before = browser.run(ends)
    browser.run("document.querySelectorAll('.scroll').forEach((place) => (place.scrollLeft = 150))")
    browser.resolve_config()
    for old, new in zip(before, browser.run(ends), strict=True):
        (name, n), numbers = new[:2], new[2:]
        assert (name, n) == tuple(old[:2])
        assert name[1] <= n[0] + 1
        assert n[1] < 390 / 2  # half of the page is left
        assert numbers[0][0] == pytest.approx(old[2][0] - 150)
    prior = "getComputedStyle(document.querySelector('tbody th'), '::after').content"
    assert browser.run(prior) == '"normal"'  # below the name, in place of its column


def test_text_of_users_is_inert_in_a_browser(browser, made, tmp_path):
    write_report(evil(made), tmp_path / "evil.html")
    browser.open(tmp_path / "evil.html", 390)
    assert browser.run("typeof hacked") == "undefined"
    assert browser.run("document.querySelector('#bars-chart').textContent").count("<script>hacked=1</script>") == 2
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert errors(browser) == []


@pytest.mark.slow
def test_21_runs_with_five_pictures_each(browser, tmp_path):
    made = toys.comparison(tmp_path, toys.MODELS[:7], (0, 1, 2), points=1000)
    every = {name: made.rows[5].entries[0].image_files[name] for name in toys.PICTURES}
    rows = [replace(row, entries=[replace(entry, image_files=every | entry.image_files) for entry in row.entries]) for row in made.rows]
    write_report(replace(made, rows=rows), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 20e6
    browser.open(tmp_path / "report.html", 1280)
    assert 0 < browser.seconds() <= 2
    assert errors(browser) == []
