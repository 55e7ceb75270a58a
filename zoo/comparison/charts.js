// The charts: what Plotly draws of the numbers. Text of users is escaped (`plain`), as Plotly reads some markup; colours are the page's.
"use strict";

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format;
const readable = (value) => value.toLocaleString("en", Math.abs(value) >= 1e4 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 4 });
const duration = (hours) => (hours < 1 ? `${readable(60 * hours)} min` : `${readable(hours)} h`);
const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const lines = (...parts) => parts.filter(Boolean).map(plain).join("<br>");
const DASHES = ["solid", "7px 4px", "2px 3px", "10px 3px 2px 3px", "14px 5px", "5px 2px 2px 2px 2px 2px"]; // as in report.html
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "hourglass", "bowtie"];
const SPAN = 1e5; // of a logarithmic axis of curves: what is lower, as the rounding of an exact inverse, would press the rest together

/** How wide text is in the charts, in pixels; and the text cut to a width. */
const pen = document.createElement("canvas").getContext("2d"), family = getComputedStyle(document.body).fontFamily;
pen.font = `12px ${family}`;
const wide = (text) => pen.measureText(text).width, widest = (texts) => Math.max(0, ...texts.map(wide));
const shortened = (text, width) => (wide(text) <= width || text.length < 3 ? plain(text) : shortened(`${text.slice(0, -2)}…`, width));

/** A colour of the page's theme as Plotly takes it. */
function css(name) {
  const probe = document.querySelector("main");
  probe.style.outlineColor = `var(--${name})`;
  return getComputedStyle(probe).outlineColor;
}
const color = (row) => css(`c${row % 8}`);
const sign = (row, filled = true) => ({ symbol: SYMBOLS[row % 8], size: 8, color: filled ? color(row) : css("page"), line: { color: color(row), width: 1.5 } });

/** Draws traces in place of the last ones, with room for text around them, in pixels. */
function plot(host, label, height, margin, traces, { xaxis, yaxis, ...layout }) {
  const [ink, quiet, line, page] = ["ink", "quiet", "line", "page"].map(css);
  const axis = { gridcolor: line, zeroline: false, tickfont: { color: quiet }, fixedrange: host.clientWidth < 620, exponentformat: "SI", nticks: 7 };
  const font = { family, size: 12, color: ink };
  const look = { font, paper_bgcolor: page, plot_bgcolor: page, showlegend: false, hovermode: "closest", hoverdistance: 48, separators: ".,", dragmode: host.clientWidth < 620 ? false : "zoom" };
  const hoverlabel = { bgcolor: page, bordercolor: line, font, align: "left" };
  host.setAttribute("role", "img"), host.setAttribute("aria-label", label);
  Plotly.react(host, traces, { ...look, hoverlabel, width: host.clientWidth, height, margin: { pad: 4, ...margin }, xaxis: { ...axis, nticks: Math.round(host.clientWidth / 90), ...xaxis }, yaxis: { ...axis, ...yaxis }, ...layout }, { displayModeBar: false });
}

/** A logarithmic axis from `low` to `high`: ticks at 1, 2 and 5 times powers of ten where these are few. */
function logarithmic(low, high) {
  const powers = Array.from({ length: 40 }, (_, k) => 10 ** (k - 20));
  const choices = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]].map((steps) => powers.flatMap((power) => steps.map((step) => step * power)));
  const found = choices.map((ticks) => ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001));
  const tickvals = found.find((ticks) => ticks.length >= 3) ?? found[3];
  return { type: "log", range: [Math.log10(low), Math.log10(high)], tickvals, ticktext: tickvals.map(compact) };
}

/** Where a value lies on an axis, as a share of its length. */
const share = ({ type, range: [low, high] }, value) => ((type === "log" ? Math.log10(value) : value) - low) / (high - low);
const title = (text) => ({ text, x: 0, xref: "paper", xanchor: "left", xshift: -48, y: 1, yref: "paper", yanchor: "bottom", yshift: 8, showarrow: false, font: { color: css("quiet") } });
const target = (chart, axis) => (typeof chart.better === "number" ? [{ type: "line", [`${axis}0`]: chart.better, [`${axis}1`]: chart.better, [axis === "x" ? "y0" : "x0"]: 0, [axis === "x" ? "y1" : "x1"]: 1, [axis === "x" ? "yref" : "xref"]: "paper", line: { color: css("ink"), width: 1.5, dash: "4px,3px" } }] : []);

/** Says below a chart which rows that are switched on have nothing in it. */
function missing(host, rows, there) {
  const names = rows.filter((_, row) => !hidden.has(row) && !there.has(row));
  host.nextElementSibling.textContent = names.length ? `No such number: ${names.join(", ")}.` : "";
}

/** What is to be low of a bar: its number, or how far its seeds are from the value to come near (not how far their mean is). */
const gap = (chart, bar) => (chart.better === "high" ? -bar.sort_by : bar.sort_by);

/** Horizontal bars with error bars, a dot for each seed, names and numbers in words. */
function barChart(host, chart, rows) {
  const bars = chart.bars.filter((bar) => !hidden.has(bar.row)).sort((a, b) => (chart.better === null ? 0 : gap(chart, a) - gap(chart, b)));
  const text = (bar) => ({ best: "★ ", noise: "≈ " })[bar.mark] ?? "";
  const narrow = host.clientWidth < 620;
  const left = narrow ? 4 : Math.min(widest(bars.map((bar) => bar.label)) + 14, host.clientWidth * 0.3);
  const right = 1.1 * widest(bars.map((bar) => text(bar) + bar.text)) + 14; // the best is bold
  const seeds = bars.flatMap((bar, k) => (bar.values.length > 1 ? bar.values.map((value) => [value, k]) : []));
  const ends = [0, ...(target(chart, "x").length ? [chart.better] : []), ...seeds.map(([value]) => value), ...bars.flatMap((bar) => [bar.mean - bar.std, bar.mean + bar.std])];
  const names = bars.map((bar, k) => ({ x: 0, xref: "paper", y: k, showarrow: false, ...(narrow ? { xanchor: "left", yshift: 19, text: shortened(bar.label, host.clientWidth - 14) } : { xanchor: "right", xshift: -8, text: shortened(bar.label, left - 12) }) }));
  const numbers = bars.map((bar, k) => ({ x: 1, xref: "paper", xanchor: "right", xshift: right, y: k, showarrow: false, text: bar.mark === "best" ? `<b>${text(bar)}${bar.text}</b>` : text(bar) + bar.text }));
  const about = bars.map((bar) => lines(bar.label, `${chart.title} ${bar.text}`, bar.values.length > 1 && `seeds: ${bar.values.map((value) => value.toFixed(chart.digits)).join(", ")}`));
  const traces = [
    { type: "bar", orientation: "h", width: narrow ? 0.42 : 0.6, x: bars.map((bar) => bar.mean), y: bars.map((_, k) => k), meta: bars.map((bar) => bar.row), marker: { color: bars.map((bar) => color(bar.row)), opacity: 0.55 }, error_x: { type: "data", array: bars.map((bar) => bar.std || NaN), color: css("ink"), thickness: 1.4, width: 5 }, hovertext: about, hoverinfo: "text" },
    { type: "scatter", mode: "markers", x: seeds.map(([value]) => value), y: seeds.map(([, k]) => k), marker: { size: 6, color: css("page"), line: { color: css("ink"), width: 1 } }, hoverinfo: "skip" },
  ];
  const label = `${chart.header}: ${bars.map((bar) => `${bar.label} ${bar.text}`).join("; ")}`;
  plot(host, label, bars.length * (narrow ? 46 : 30) + 40, { l: left, r: right, t: 6, b: 34 }, traces, { xaxis: { range: [Math.min(...ends), Math.max(...ends) || 1] }, dragmode: false, yaxis: { range: [bars.length - 0.5, narrow ? -0.7 : -0.5], visible: false }, shapes: target(chart, "x"), annotations: [...names, ...numbers] });
  missing(host, rows, new Set(bars.map((bar) => bar.row)));
}

/** One line for each row, named at its end; a band from the lowest seed to the highest. */
function lineChart(host, curve, rows, axis, log) {
  const shown = curve.lines.filter((line) => !hidden.has(line.row) && line[axis]);
  const all = shown.flatMap((line) => [...line.mean, ...(line.low ?? []), ...(line.high ?? [])]), spent = shown.flatMap((line) => line[axis]);
  const floor = log ? Math.max(...all) / SPAN : -Infinity, [low, high] = [Math.max(floor, Math.min(...all)), Math.max(...all)];
  const cut = Math.min(...all) < floor ? `; what is below ${readable(floor)} lies on the edge` : "", room = (high - low || Math.abs(high) || 1) * 0.04;
  const yaxis = log ? logarithmic(low, high) : { range: [low - room, high + room] }, end = Math.max(...spent);
  const height = host.clientWidth < 620 ? 340 : 440, names = Math.min(widest(shown.map((line) => rows[line.row])) + 20, host.clientWidth * 0.27);
  const raised = (values) => values.map((value) => Math.max(value, floor));
  const bands = shown.filter((line) => line.low).map((line) => ({ type: "scatter", mode: "lines", x: [...line[axis], ...line[axis].toReversed()], y: raised([...line.high, ...line.low.toReversed()]), fill: "toself", fillcolor: color(line.row), line: { width: 0 }, opacity: 0.13, hoverinfo: "skip" }));
  const means = shown.map((line) => ({
    ...{ type: "scatter", mode: "lines+markers", x: line[axis], y: raised(line.mean), meta: line.row, hoverinfo: "text", cliponaxis: false },
    ...{ line: { color: color(line.row), width: 1.8, dash: DASHES[line.row % 6] }, marker: { ...sign(line.row), maxdisplayed: 7 } },
    hovertext: line.mean.map((value, k) => lines(rows[line.row], `${curve.name} ${readable(value)}`, line.low && `${readable(line.low[k])} to ${readable(line.high[k])}, ${line.count} seeds`, `${readable(line.images[k])} images${line.hours ? `, ${duration(line.hours[k])}` : ""}`)),
  }));
  // Names beside the ends, 14 pixels apart at least, each with a line to its end.
  const place = (height - 78), ends = means.map((mean) => ({ mean, y: (1 - share(yaxis, mean.y.at(-1))) * place })).sort((a, b) => a.y - b.y);
  ends.forEach((one, k) => (one.at = k ? Math.max(one.y, ends[k - 1].at + 14) : one.y));
  ends.reverse().forEach((one, k) => (one.at = Math.min(one.at, k ? ends[k - 1].at - 14 : place + 4)));
  const length = host.clientWidth - 52 - names;
  const annotations = ends.map(({ mean, y, at }) => ({ x: mean.x.at(-1), y: log ? Math.log10(mean.y.at(-1)) : mean.y.at(-1), ax: (1 - mean.x.at(-1) / end) * length + 14, ay: at - y, xanchor: "left", text: shortened(rows[mean.meta], names - 16), arrowhead: 0, arrowwidth: 0.8, arrowcolor: color(mean.meta), standoff: 5, borderpad: 1 }));
  const what = `${curve.name} against ${axis === "hours" ? "hours" : "images seen"}, one line for each model`;
  plot(host, what, height, { l: 52, r: names, t: 30, b: 48 }, [...bands, ...means], { xaxis: { range: [Math.min(0, ...spent), end], title: { text: axis === "hours" ? "hours" : "images seen", font: { size: 12, color: css("quiet") } }, showgrid: false }, yaxis, annotations: [title(plain(curve.name) + (log ? ", logarithmic" : "") + cut), ...annotations] });
}

/** Quality against cost, the Pareto front joined. */
function scatterChart(host, chart, cost, rows) {
  const best = new Map(); // of several priors the best one counts
  for (const bar of chart.bars) {
    if (hidden.has(bar.row) || cost.values[bar.row] === null) continue;
    if (!best.has(bar.row) || gap(chart, bar) < gap(chart, best.get(bar.row))) best.set(bar.row, bar);
  }
  const points = [...best.values()].map((bar) => ({ ...bar, cost: cost.values[bar.row], gap: gap(chart, bar), spent: cost.values[bar.row] * (cost.better === "low" ? 1 : -1) }));
  const beats = (a, b) => a.spent <= b.spent && a.gap <= b.gap && (a.spent < b.spent || a.gap < b.gap);
  const front = chart.better === null ? [] : points.filter((point) => !points.some((other) => beats(other, point))).sort((a, b) => a.cost - b.cost);
  const costs = points.map((point) => point.cost), values = [...points.flatMap(({ mean, std }) => [mean - std, mean + std]), ...(target(chart, "y").length ? [chart.better] : [])];
  const room = (Math.max(...values) - Math.min(...values) || Math.abs(values[0]) || 1) * 0.1, height = host.clientWidth < 620 ? 360 : 440;
  const xaxis = logarithmic(Math.min(...costs) / 1.25, Math.max(...costs) * 1.25), yaxis = { range: [Math.min(...values) - room, Math.max(...values) + room] };
  // Names where they cover nothing; where there is no such place, only the tip tells.
  const [across, high] = [host.clientWidth - 76, height - 82], where = points.map((point) => [share(xaxis, point.cost) * across, (1 - share(yaxis, point.mean)) * high]);
  const taken = where.map(([x, y]) => [x - 7, y - 7, x + 7, y + 7]);
  const free = (box) => box[0] > 0 && box[2] < across + 24 && box[1] > -8 && box[3] < high && !taken.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1]);
  const annotations = points.flatMap((point, k) => {
    const [x, y] = where[k], long = wide(rows[point.row]);
    const places = [[8, -20], [10, -7], [-10 - long, -7], [-long / 2, -23], [-long / 2, 9], [8, 6], [-8 - long, -20], [-8 - long, 6]];
    const place = places.find(([left, top]) => free([x + left, y + top, x + left + long, y + top + 14]));
    if (!place) return [];
    taken.push([x + place[0], y + place[1], x + place[0] + long, y + place[1] + 14]);
    return [{ x: Math.log10(point.cost), y: point.mean, xanchor: "left", yanchor: "top", xshift: place[0], yshift: -place[1], borderpad: 0, showarrow: false, text: plain(rows[point.row]) }];
  });
  const traces = [
    { type: "scatter", mode: "lines", name: "front", x: front.map((point) => point.cost), y: front.map((point) => point.mean), line: { color: css("quiet"), width: 1.3, dash: "5px,4px" }, hoverinfo: "skip" },
    ...points.map((point) => ({ type: "scatter", mode: "markers", meta: point.row, x: [point.cost], y: [point.mean], marker: sign(point.row, front.includes(point)), error_y: { type: "data", array: [point.std || NaN], color: color(point.row), thickness: 1.3, width: 0 }, hoverinfo: "text", hovertext: lines(point.label, `${chart.title} ${point.text}`, `${readable(point.cost)} ${cost.title}`) })),
  ];
  const label = `${chart.header} against ${cost.title}: ${points.map((point) => `${point.label} ${point.text} at ${readable(point.cost)}`).join("; ")}`;
  plot(host, label, height, { l: 52, r: 24, t: 34, b: 48 }, traces, { xaxis: { ...xaxis, showgrid: false, title: { text: `${cost.title}, logarithmic ${cost.better === "low" ? "(less is better: left)" : "(more is better: right)"}`, font: { size: 12, color: css("quiet") } } }, yaxis, shapes: target(chart, "y"), annotations: [title(chart.header), ...annotations] });
  missing(host, rows, best);
}
