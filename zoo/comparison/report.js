// The page: sorting, switches, legends, the enlarged picture, the theme. Without this script tables and the first pictures still stand.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id), all = (what, inside = document) => [...inside.querySelectorAll(what)];
const chosen = (id) => document.querySelector(`#${id} input:checked`)?.value;
const hidden = new Set(); // rows that the legends have switched off

// Tables: a click on a heading sorts, the better first; a second click turns it round. What has no number stays last.
for (const heading of all(".sortable thead th")) {
  const button = Object.assign(document.createElement("button"), { type: "button", onclick: () => sortBy(heading) });
  button.append(...heading.childNodes);
  heading.append(button);
  heading.setAttribute("aria-sort", "none");
}
function sortBy(heading) {
  const table = heading.closest("table"), text = "text" in heading.dataset;
  const [first, second] = heading.dataset.better === "high" ? ["descending", "ascending"] : ["ascending", "descending"];
  const order = heading.getAttribute("aria-sort") === first ? second : first, sign = order === "ascending" ? 1 : -1;
  for (const one of all("thead th", table)) one.setAttribute("aria-sort", one === heading ? order : "none");
  const value = ({ cells: { [heading.cellIndex]: cell } }) => (text ? cell.textContent.trim() : cell.dataset.sort);
  const compare = (a, b) => (text ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  const last = (a, b) => (a === "" || b === "" ? (a === "") - (b === "") : sign * compare(a, b));
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => last(value(a), value(b))));
}

let logChosen = false; // by hand; until then a curve that spans more than one order of magnitude is drawn logarithmically
const DRAWN = {
  bars: () => barChart(find("bars-chart"), data.charts[find("bars-metric").value], data.rows),
  curves() {
    const curve = data.curves[find("curves-metric").value], box = find("curves-log"), hours = document.querySelector("#curves-axis input[value=hours]");
    const values = curve.lines.flatMap((line) => line.low ?? line.mean);
    box.disabled = Math.min(...values) <= 0;
    box.parentElement.title = box.disabled ? "not where there are values of 0 or less" : "";
    if (box.disabled || !logChosen) box.checked = !box.disabled && Math.max(...values) / Math.min(...values) > 10;
    hours.disabled = !curve.lines.some((line) => line.hours);
    lineChart(find("curves-chart"), curve, data.rows, hours.disabled ? "images" : chosen("curves-axis"), box.checked);
  },
  cost: () => scatterChart(find("cost-chart"), data.charts[find("cost-metric").value], data.costs[find("cost-axis").value], data.rows),
  pictures() {
    const kind = chosen("pictures-kind"), seed = chosen("pictures-seed"), absent = new Set(data.rows.keys());
    for (const figure of all(".gallery figure")) {
      const row = Number(figure.dataset.row), fits = figure.dataset.kind === kind && figure.dataset.seed === seed;
      figure.hidden = !fits || hidden.has(row);
      if (fits || hidden.has(row)) absent.delete(row);
      const image = figure.querySelector("img"); // not decoded before it is looked at
      if (fits && image.dataset.src) (image.src = image.dataset.src), delete image.dataset.src;
    }
    for (const caption of all(".caption")) caption.hidden = caption.dataset.kind !== kind;
    find("absent").textContent = absent.size ? `No such picture of ${[...absent].map((row) => data.rows[row]).join(", ")}.` : "";
  },
};
function drawAll() {
  for (const button of all(".legend button")) button.setAttribute("aria-pressed", !hidden.has(Number(button.dataset.row)));
  for (const [id, draw] of Object.entries(DRAWN)) if (find(id)) draw();
}
for (const button of all(".legend button")) {
  const row = Number(button.dataset.row);
  button.onclick = () => (hidden.delete(row) || hidden.add(row), drawAll());
}

/** Fills a <select>, if there is one, with [title, group or nothing]; without those that have no title. Values are positions. */
function fill(select, options) {
  const groups = new Map();
  if (select) options.forEach(([title, group], k) => {
    if (title && group && !groups.has(group)) groups.set(group, select.appendChild(Object.assign(document.createElement("optgroup"), { label: group })));
    if (title) (groups.get(group) ?? select).append(new Option(title, k));
  });
}
fill(find("bars-metric"), data.charts.map((chart) => [chart.header, chart.table]));
fill(find("cost-metric"), data.charts.map((chart) => [chart.quality && chart.header, chart.table]));
fill(find("cost-axis"), data.costs.map((cost) => [cost.title]));
fill(find("curves-metric"), data.curves.map((curve) => [curve.name]));
// What is shown first is the quality of the first table that the most models have; a cost is no quality.
const ofFirst = data.charts.filter((chart) => chart.quality && chart.table === data.charts[0].table);
const first = ofFirst.reduce((a, b) => (b.bars.length > a.bars.length ? b : a), ofFirst[0]);
for (const id of ["bars-metric", "cost-metric"]) if (first && find(id)) find(id).value = data.charts.indexOf(first);
find("curves-log")?.addEventListener("change", () => (logChosen = true));
for (const [id, draw] of Object.entries(DRAWN)) find(id)?.addEventListener("change", draw);

// The enlarged picture: arrows go to the same picture of the next model, in the same place, so that differences jump out.
let large = null;
function enlarge(figure) {
  large = figure;
  const image = figure.querySelector("img"), [width, height] = ["width", "height"].map((side) => Number(image.getAttribute(side)));
  const shown = Math.min(innerWidth - 48, ((innerHeight - 110) * width) / height, 3 * width);
  Object.assign(find("large-image"), { src: image.src, alt: image.alt });
  Object.assign(find("large-image").style, { width: `${shown}px`, imageRendering: shown > width ? "pixelated" : "auto" });
  find("large-name").textContent = figure.querySelector("figcaption").textContent;
  if (!find("large").open) find("large").showModal();
}
function step(by) {
  const figures = all(".gallery figure:not([hidden])");
  enlarge(figures[(figures.indexOf(large) + by + figures.length) % figures.length]);
}
for (const button of all(".gallery button")) button.onclick = () => enlarge(button.closest("figure"));
find("large").addEventListener("keydown", (event) => ({ ArrowLeft: () => step(-1), ArrowRight: () => step(1) })[event.key]?.());
find("large").addEventListener("click", ({ target }) => (target === find("large") || target.dataset.step === "0" ? find("large").close() : target.dataset.step && step(Number(target.dataset.step))));

const themes = ["automatic", "light", "dark"];
function setTheme(theme, width = "") {
  document.documentElement.dataset.theme = theme;
  document.querySelector("main").style.width = width;
  drawAll();
}
find("theme").onclick = () => {
  themes.push(themes.shift());
  find("theme").textContent = `theme: ${themes[0]}`;
  setTheme(themes[0]);
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("beforeprint", () => (all("details").forEach((details) => (details.open = true)), setTheme("light", "44rem"))); // of A4
addEventListener("afterprint", () => setTheme(themes[0]));
let width = 0; // charts are drawn anew when the page gets another one
new ResizeObserver(([{ target }]) => target.clientWidth !== width && ((width = target.clientWidth), drawAll())).observe(document.querySelector("main"));
