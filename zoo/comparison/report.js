// The page: sorting, switches, legends, the enlarged picture, the theme. Without this script tables and the first pictures still stand.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const chosen = (id) => document.querySelector(`#${id} input:checked`)?.value;
const hidden = new Set(); // rows that the legends have switched off

// Tables: a click on a heading sorts, the better first; a second click turns it round. What has no number stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.onclick = () => sortBy(table, heading, column);
  });
}

function sortBy(table, heading, column) {
  const first = heading.dataset.better === "high" ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = heading.getAttribute("aria-sort") === first ? other : first;
  table.querySelectorAll("thead th").forEach((one) => one.setAttribute("aria-sort", one === heading ? order : "none"));
  const sign = order === "ascending" ? 1 : -1, text = "text" in heading.dataset;
  const value = (row) => (text ? row.cells[column].textContent.trim() : row.cells[column].dataset.sort);
  const compare = (a, b) => (text ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [one, two] = [value(a), value(b)];
    return one === "" || two === "" ? (one === "") - (two === "") : sign * compare(one, two);
  });
  table.tBodies[0].append(...rows);
}

/** Fills a <select> with [title, group or nothing]; left out where there is no title. Values are positions. */
function fill(select, options) {
  const groups = new Map();
  options.forEach(([title, group], k) => {
    if (!title) return;
    if (group && !groups.has(group)) groups.set(group, select.appendChild(Object.assign(document.createElement("optgroup"), { label: group })));
    (groups.get(group) ?? select).append(new Option(title, k));
  });
}

let logChosen = false; // by hand; until then a curve that spans more than one order of magnitude is drawn logarithmically
function drawCurves() {
  const curve = data.curves[find("curves-metric").value], box = find("curves-log"), hours = document.querySelector("#curves-axis input[value=hours]");
  const values = curve.lines.flatMap((line) => line.low ?? line.mean);
  box.disabled = Math.min(...values) <= 0;
  box.parentElement.title = box.disabled ? "not where there are values of 0 or less" : "";
  if (box.disabled || !logChosen) box.checked = !box.disabled && Math.max(...values) / Math.min(...values) > 10;
  hours.disabled = !curve.lines.some((line) => line.hours);
  lineChart(find("curves-chart"), curve, data.rows, hours.disabled ? "images" : chosen("curves-axis"), box.checked);
}
const DRAWN = {
  bars: () => barChart(find("bars-chart"), data.charts[find("bars-metric").value], data.rows),
  curves: drawCurves,
  cost: () => scatterChart(find("cost-chart"), data.charts[find("cost-metric").value], data.costs[find("cost-axis").value], data.rows),
  pictures: showPictures,
};

function showPictures() {
  const kind = chosen("pictures-kind"), seed = chosen("pictures-seed"), absent = new Set(data.rows.keys());
  for (const figure of document.querySelectorAll(".gallery figure")) {
    const row = Number(figure.dataset.row), fits = figure.dataset.kind === kind && figure.dataset.seed === seed;
    figure.hidden = !fits || hidden.has(row);
    if (fits || hidden.has(row)) absent.delete(row);
    const image = figure.querySelector("img"); // not decoded before it is looked at
    if (fits && image.dataset.src) (image.src = image.dataset.src), delete image.dataset.src;
  }
  for (const caption of document.querySelectorAll(".caption")) caption.hidden = caption.dataset.kind !== kind;
  find("absent").textContent = absent.size ? `No such picture of ${[...absent].map((row) => data.rows[row]).join(", ")}.` : "";
}

function drawAll() {
  for (const button of document.querySelectorAll(".legend button")) button.setAttribute("aria-pressed", !hidden.has(Number(button.dataset.row)));
  for (const [id, draw] of Object.entries(DRAWN)) if (find(id)) draw();
}

for (const button of document.querySelectorAll(".legend button")) {
  const row = Number(button.dataset.row);
  button.onclick = () => (hidden.delete(row) || hidden.add(row), drawAll());
}

// What is shown first is the quality of the first table that the most models have; a cost is no quality.
const ofFirst = data.charts.filter((chart) => chart.quality && chart.table === data.charts[0].table);
const first = ofFirst.reduce((a, b) => (b.bars.length > a.bars.length ? b : a), ofFirst[0]);
for (const id of ["bars-metric", "cost-metric"].filter(find)) {
  fill(find(id), data.charts.map((chart) => [(chart.quality || id === "bars-metric") && chart.header, chart.table]));
  if (first) find(id).value = data.charts.indexOf(first);
}
if (find("cost-axis")) fill(find("cost-axis"), data.costs.map((cost) => [cost.title]));
if (find("curves-metric")) fill(find("curves-metric"), data.curves.map((curve) => [curve.name]));
for (const [id, draw] of Object.entries(DRAWN)) find(id)?.addEventListener("change", draw);
find("curves-log")?.addEventListener("change", () => (logChosen = true), true);

// The enlarged picture: arrows go to the same picture of the next model, in the same place, so that differences jump out.
let large = null;
function enlarge(figure) {
  large = figure;
  const image = figure.querySelector("img"), [width, height] = [Number(image.getAttribute("width")), Number(image.getAttribute("height"))];
  const shown = Math.min(innerWidth - 48, ((innerHeight - 110) * width) / height, 3 * width);
  const target = find("large-image");
  Object.assign(target, { src: image.src, alt: image.alt });
  Object.assign(target.style, { width: `${shown}px`, imageRendering: shown > width ? "pixelated" : "auto" });
  find("large-name").textContent = figure.querySelector("figcaption").textContent;
  if (!find("large").open) find("large").showModal();
}
function step(by) {
  const figures = [...document.querySelectorAll(".gallery figure:not([hidden])")];
  enlarge(figures[(figures.indexOf(large) + by + figures.length) % figures.length]);
}
for (const button of document.querySelectorAll(".gallery button")) button.onclick = () => enlarge(button.closest("figure"));
find("large").addEventListener("keydown", (event) => ({ ArrowLeft: () => step(-1), ArrowRight: () => step(1) })[event.key]?.());
find("large").addEventListener("click", (event) => {
  const by = event.target.dataset.step;
  if (event.target === find("large") || by === "0") find("large").close();
  else if (by) step(Number(by));
});

const THEMES = { automatic: "light", light: "dark", dark: "automatic" };
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  drawAll();
}
find("theme").onclick = () => {
  const theme = THEMES[find("theme").textContent.split(": ")[1]];
  find("theme").textContent = `theme: ${theme}`;
  setTheme(theme);
};
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => (details.open = true)));
addEventListener("beforeprint", () => setTheme("light"));
addEventListener("afterprint", () => setTheme(find("theme").textContent.split(": ")[1]));

let width = 0; // charts are drawn anew when the page gets another one
new ResizeObserver(([{ target }]) => target.clientWidth !== width && ((width = target.clientWidth), drawAll())).observe(document.querySelector("main"));
