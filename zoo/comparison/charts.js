// The charts: SVG drawn from numbers, in pixels of the place they have, so that text is never scaled. Text goes in as textContent only.
"use strict";

const DASHES = ["", "7 4", "2 3", "10 3 2 3", "14 5", "5 2 2 2 2 2"]; // six, and eight markers and colours: 24 lines that differ without colour
const MARKERS = [
  "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0Z", "M-3.2,-3.2H3.2V3.2H-3.2Z", "M0,-4.2L4,3H-4Z", "M0,-4.6L4.6,0L0,4.6L-4.6,0Z",
  "M0,4.2L4,-3H-4Z", "M-4,-1.3H-1.3V-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4Z", "M-4.5,-2H4.5V2H-4.5Z", "M-2,-4.5H2V4.5H-2Z",
];
const color = (row) => `var(--c${row % 8})`;

/** A new SVG element inside its parent; style.* attributes may use the theme's colours. */
function draw(parent, tag, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "fill" || name === "stroke") element.style[name] = value;
    else element.setAttribute(name, value);
  }
  if (text !== null) element.textContent = text;
  return parent.appendChild(element);
}

function marker(parent, row, x, y, filled = true) {
  const look = { fill: filled ? color(row) : "var(--page)", stroke: color(row), "stroke-width": 1.5 };
  return draw(parent, "path", { d: MARKERS[row % 8], transform: `translate(${x},${y})`, ...look });
}

/** The sign of a row beside its name, as its line looks in the curves. */
function key(parent, row) {
  const svg = draw(parent, "svg", { viewBox: "0 0 30 12", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true" });
  draw(svg, "line", { x1: 0, x2: 30, y1: 6, y2: 6, stroke: color(row), "stroke-width": 2, "stroke-dasharray": DASHES[row % 6] });
  marker(svg, row, 15, 6);
}

/** An empty chart in place of the last one. */
function canvas(host, height, label) {
  host.replaceChildren();
  const width = Math.max(host.clientWidth, 240);
  const svg = draw(host, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  return { svg, width, height };
}

function scale(low, high, from, to, log) {
  const map = log ? Math.log10 : (value) => value;
  const start = map(low), span = map(high) - start || 1;
  const place = (value) => from + ((map(value) - start) / span) * (to - from);
  return Object.assign(place, { low, high, log });
}

const SPAN = 1e5; // of a logarithmic axis of curves: what is lower, as the rounding of an exact inverse, would press the rest together

/** Round numbers between two values, about `count` of them; for a logarithmic axis 1, 2 and 5 times powers of ten where these are few. */
function ticks(low, high, count, log) {
  if (log) {
    const powers = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) powers.push(power);
    for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 8]]) {
      const found = powers.flatMap((power) => steps.map((step) => step * 10 ** power)).filter((value) => value >= low * 0.999 && value <= high * 1.001);
      if (found.length >= 3 || steps.length > 4) return found.length > 2 * count ? found.filter((_, k) => k % Math.ceil(found.length / count) === 0) : found;
    }
  }
  const raw = (high - low) / Math.max(1, count), power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

/** "0.02", "1.5k", "2M": short enough for an axis. */
function compact(value) {
  const size = Math.abs(value);
  for (const [unit, name] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (size >= unit) return `${+(value / unit).toPrecision(3)}${name}`;
  return size && size < 1e-4 ? value.toExponential(0).replace("e-", "e−") : String(+value.toPrecision(3)).replace("-", "−");
}

const readable = (value) => (Math.abs(value) >= 1e4 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4)));
const duration = (hours) => (hours < 1 ? `${+(60 * hours).toPrecision(3)} min` : `${+hours.toPrecision(3)} h`);
const shortened = (text, most) => (text.length > most ? text.slice(0, Math.max(1, most - 1)) + "…" : text);
const LETTER = 6.4; // pixels, about, at 12 pixels

/** Grid, ticks and titles around the box {left, right, top, bottom}. */
function axes(svg, box, x, y, titles) {
  const group = draw(svg, "g", { class: "axis" });
  for (const value of ticks(y.low, y.high, 5, y.log)) {
    draw(group, "line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) });
    draw(group, "text", { x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, compact(value));
  }
  for (const value of ticks(x.low, x.high, Math.max(2, Math.floor((box.right - box.left) / 90)), x.log)) {
    draw(group, "line", { class: "grid", x1: x(value), x2: x(value), y1: box.bottom, y2: box.bottom + 5 });
    draw(group, "text", { x: x(value), y: box.bottom + 19, "text-anchor": "middle" }, compact(value));
  }
  draw(group, "text", { x: 0, y: box.top - 14 }, titles.y);
  draw(group, "text", { x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle" }, titles.x);
}

/** Shows the nearest point's lines of text beside it, by mouse and by finger; points are {x, y, lines}. */
function hover(svg, points, reach) {
  const tip = document.getElementById("tip");
  const hide = () => (tip.hidden = true);
  const show = (event) => {
    const area = svg.getBoundingClientRect();
    const distance = (point) => Math.hypot(point.x - (event.clientX - area.left), point.y - (event.clientY - area.top));
    const near = points.reduce((best, point) => (!best || distance(point) < distance(best) ? point : best), null);
    if (!near || distance(near) > reach) return hide();
    tip.replaceChildren(...near.lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    tip.hidden = false;
    const left = area.left + scrollX + near.x, room = document.documentElement.clientWidth;
    tip.style.left = `${left + 14 + tip.offsetWidth > room ? Math.max(4, left - 14 - tip.offsetWidth) : left + 14}px`;
    tip.style.top = `${area.top + scrollY + near.y - tip.offsetHeight - 8}px`;
  };
  svg.onpointermove = svg.onpointerdown = show;
  svg.onpointerleave = hide;
}

/** Says below a chart which rows that are switched on have nothing in it. */
function missing(host, rows, there, hidden) {
  const names = rows.filter((_, row) => !hidden.has(row) && !there.has(row));
  const line = Object.assign(document.createElement("p"), { className: "quiet", textContent: `No such number: ${names.join(", ")}.` });
  if (names.length) host.append(line);
}

/** What is to be low of a bar: its number, or how far its seeds are from the value to come near (not how far their mean is). */
const gap = (chart, bar) => (chart.better === "high" ? -bar.mean : bar.distance ?? bar.mean);

/** Horizontal bars with error bars, a dot for each seed, names and numbers in words. */
function barChart(host, chart, rows, hidden) {
  const bars = chart.bars.filter((bar) => !hidden.has(bar.row)).sort((a, b) => (chart.better === null ? 0 : gap(chart, a) - gap(chart, b)));
  const signs = { best: "★ ", noise: "≈ ", "": "" };
  const text = (bar) => signs[bar.mark] + bar.text;
  const narrow = host.clientWidth < 620, height = narrow ? 44 : 30;
  const { svg, width } = canvas(host, bars.length * height + 44, `${chart.header}: ${bars.map((bar) => `${bar.label} ${bar.text}`).join("; ")}`);
  const longest = Math.max(...bars.map((bar) => bar.label.length), 1);
  const left = narrow ? 2 : Math.min(longest * LETTER + 26, width * 0.3);
  const right = width - Math.max(...bars.map((bar) => text(bar).length), 1) * LETTER - 22;
  const ends = bars.flatMap((bar) => [bar.mean - (bar.deviation ?? 0), bar.mean + (bar.deviation ?? 0), ...bar.seeds]);
  if (typeof chart.better === "number") ends.push(chart.better);
  const x = scale(Math.min(0, ...ends), Math.max(0, ...ends) || 1, left, right, false);
  const bottom = bars.length * height + 6;
  for (const value of ticks(x.low, x.high, Math.max(2, Math.floor((right - left) / 110)), false)) {
    draw(svg, "line", { class: "grid", x1: x(value), x2: x(value), y1: 2, y2: bottom });
    draw(svg, "text", { class: "axis", x: x(value), y: bottom + 17, "text-anchor": narrow && value === x.low ? "start" : "middle" }, compact(value));
  }
  if (typeof chart.better === "number") {
    draw(svg, "line", { x1: x(chart.better), x2: x(chart.better), y1: 2, y2: bottom, stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "4 3" });
  }
  const points = bars.map((bar, k) => {
    const top = k * height + (narrow ? 20 : 6), middle = top + 9;
    const name = shortened(bar.label, narrow ? Math.floor(width / LETTER) : Math.floor((left - 20) / LETTER));
    draw(svg, "text", narrow ? { x: left, y: top - 5 } : { x: left - 12, y: middle + 4, "text-anchor": "end" }, name);
    draw(svg, "rect", { class: "bar-mark", x: Math.min(x(0), x(bar.mean)), y: top, width: Math.max(1, Math.abs(x(bar.mean) - x(0))), height: 18, rx: 2, fill: color(bar.row), "fill-opacity": 0.55 });
    if (bar.deviation) {
      const [a, b] = [x(bar.mean - bar.deviation), x(bar.mean + bar.deviation)];
      draw(svg, "path", { d: `M${a},${middle - 5}v10M${a},${middle}H${b}M${b},${middle - 5}v10`, fill: "none", stroke: "var(--ink)", "stroke-width": 1.4 });
    }
    for (const seed of bar.seeds) draw(svg, "circle", { cx: x(seed), cy: middle, r: 2.7, fill: "var(--page)", "fill-opacity": 0.85, stroke: "var(--ink)", "stroke-width": 1 });
    draw(svg, "text", { x: width - 2, y: middle + 4, "text-anchor": "end", ...(bar.mark === "best" ? { "font-weight": 700 } : {}) }, text(bar));
    const seeds = bar.seeds.length ? [`seeds: ${bar.seeds.map((value) => value.toFixed(chart.digits)).join(", ")}`] : [];
    return { x: x(bar.mean), y: middle, lines: [bar.label, `${chart.title} ${bar.text}`, ...seeds] };
  });
  missing(host, rows, new Set(bars.map((bar) => bar.row)), hidden);
  hover(svg, points, 2000);
}

/** One line for each row, named at its end; a band from the lowest seed to the highest. */
function lineChart(host, curve, rows, axis, log, hidden) {
  const lines = curve.lines.filter((line) => !hidden.has(line.row) && line[axis]);
  const height = host.clientWidth < 620 ? 340 : 440;
  const { svg, width } = canvas(host, height, `${curve.name} against ${axis === "hours" ? "hours" : "images seen"}, one line for each model`);
  if (!lines.length) return draw(svg, "text", { class: "axis", x: 0, y: 20 }, "Nothing to draw.");
  const all = lines.flatMap((line) => [...line.mean, ...(line.low ?? []), ...(line.high ?? [])]);
  const floor = log ? Math.max(...all) / SPAN : -Infinity, shown = (value) => value >= floor;
  const values = all.filter(shown), cut = values.length < all.length;
  const spent = lines.flatMap((line) => line[axis]);
  const names = Math.min(Math.max(...lines.map((line) => rows[line.row].length)) * LETTER + 16, width * 0.27);
  const box = { left: 52, right: width - names, top: 30, bottom: height - 48 };
  const [low, high] = [cut ? floor : Math.min(...values), Math.max(...values)], room = log ? 0 : (high - low || Math.abs(high) || 1) * 0.04;
  const x = scale(Math.min(0, ...spent), Math.max(...spent), box.left, box.right, false);
  const y = scale(low - room, high + room, box.bottom, box.top, log);
  axes(svg, box, x, y, { x: axis === "hours" ? "hours" : "images seen", y: curve.name + (log ? ", logarithmic" : "") + (cut ? `; what is below ${readable(floor)} lies on the edge` : "") });
  const points = [], ends = [];
  for (const line of lines) {
    const places = line.mean.map((value, k) => [x(line[axis][k]), shown(value) ? y(value) : box.bottom]);
    if (line.low) {
      const edge = (side) => line[side].map((value, k) => `${x(line[axis][k]).toFixed(1)},${(shown(value) ? y(value) : box.bottom).toFixed(1)}`);
      draw(svg, "path", { d: `M${edge("high").join("L")}L${edge("low").reverse().join("L")}Z`, fill: color(line.row), "fill-opacity": 0.13, stroke: "none" });
    }
    const path = places.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join("L");
    draw(svg, "path", { class: "line-mark", d: `M${path}`, fill: "none", stroke: color(line.row), "stroke-width": 1.8, "stroke-linejoin": "round", "stroke-dasharray": DASHES[line.row % 6] });
    let next = box.left + 40 + ((line.row * 37) % 110); // the markers of different lines stand at different places
    places.forEach(([a, b], k) => {
      if (a >= next || k === places.length - 1) marker(svg, line.row, a, b), (next = a + 150);
      const range = line.low ? [`${readable(line.low[k])} to ${readable(line.high[k])}, ${line.count} seeds`] : [];
      const when = [`${readable(line.images[k])} images`, ...(line.hours ? [duration(line.hours[k])] : [])].join(", ");
      points.push({ x: a, y: b, lines: [rows[line.row], `${curve.name} ${readable(line.mean[k])}`, ...range, when] });
    });
    const [endX, endY] = places[places.length - 1];
    ends.push({ row: line.row, x: endX, y: endY, at: endY });
  }
  ends.sort((a, b) => a.y - b.y);
  for (let k = 1; k < ends.length; k++) ends[k].at = Math.max(ends[k].at, ends[k - 1].at + 14);
  let lowest = box.bottom + 4;
  for (const end of ends.reverse()) (end.at = Math.min(end.at, lowest)), (lowest = end.at - 14);
  for (const end of ends) {
    const start = Math.max(end.x, box.right - 2);
    draw(svg, "path", { d: `M${end.x + 6},${end.y}L${start + 9},${end.at}`, fill: "none", stroke: color(end.row), "stroke-width": 0.8, "stroke-opacity": 0.6 });
    draw(svg, "text", { class: "halo", x: start + 12, y: end.at + 4 }, shortened(rows[end.row], Math.floor((names - 12) / LETTER)));
  }
  hover(svg, points, 48);
}

/** Quality against cost, the Pareto front joined. */
function scatterChart(host, chart, cost, rows, hidden) {
  const best = new Map(); // of several priors the best one counts
  for (const bar of chart.bars) {
    if (hidden.has(bar.row) || cost.values[bar.row] === null) continue;
    if (!best.has(bar.row) || gap(chart, bar) < gap(chart, best.get(bar.row))) best.set(bar.row, bar);
  }
  const points = [...best.values()].map((bar) => ({ bar, row: bar.row, cost: cost.values[bar.row], value: bar.mean, gap: gap(chart, bar) }));
  const spent = (point) => (cost.better === "low" ? point.cost : -point.cost);
  const beats = (a, b) => spent(a) <= spent(b) && a.gap <= b.gap && (spent(a) < spent(b) || a.gap < b.gap);
  const front = chart.better === null ? [] : points.filter((point) => !points.some((other) => beats(other, point))).sort((a, b) => a.cost - b.cost);
  const height = host.clientWidth < 620 ? 360 : 440;
  const { svg, width } = canvas(host, height, `${chart.header} against ${cost.title}: ${points.map((p) => `${p.bar.label} ${p.bar.text} at ${readable(p.cost)}`).join("; ")}`);
  if (!points.length) return draw(svg, "text", { class: "axis", x: 0, y: 20 }, "Nothing to draw.");
  const box = { left: 52, right: width - 24, top: 34, bottom: height - 48 };
  const costs = points.map((point) => point.cost), values = points.flatMap(({ bar }) => [bar.mean - (bar.deviation ?? 0), bar.mean + (bar.deviation ?? 0)]);
  if (typeof chart.better === "number") values.push(chart.better);
  const room = (Math.max(...values) - Math.min(...values) || Math.abs(values[0]) || 1) * 0.1;
  const x = scale(Math.min(...costs) / 1.25, Math.max(...costs) * 1.25, box.left, box.right, true);
  const y = scale(Math.min(...values) - room, Math.max(...values) + room, box.bottom, box.top, false);
  axes(svg, box, x, y, { x: `${cost.title}, logarithmic ${cost.better === "low" ? "(less is better: left)" : "(more is better: right)"}`, y: chart.header });
  if (typeof chart.better === "number") {
    draw(svg, "line", { x1: box.left, x2: box.right, y1: y(chart.better), y2: y(chart.better), stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "4 3" });
  }
  if (front.length > 1) {
    const path = front.map((point) => `${x(point.cost)},${y(point.value)}`).join("L");
    draw(svg, "path", { class: "front", d: `M${path}`, fill: "none", stroke: "var(--quiet)", "stroke-width": 1.3, "stroke-dasharray": "5 4" });
  }
  const taken = points.map((point) => [x(point.cost) - 7, y(point.value) - 7, x(point.cost) + 7, y(point.value) + 7]);
  const free = (area) => area[0] > box.left && area[2] < width && area[1] > box.top - 8 && area[3] < box.bottom && !taken.some((other) => area[0] < other[2] && area[2] > other[0] && area[1] < other[3] && area[3] > other[1]);
  const found = points.map((point) => {
    const [a, b] = [x(point.cost), y(point.value)], { bar } = point;
    if (bar.deviation) draw(svg, "line", { x1: a, x2: a, y1: y(bar.mean - bar.deviation), y2: y(bar.mean + bar.deviation), stroke: color(point.row), "stroke-width": 1.3 });
    marker(svg, point.row, a, b, front.includes(point)).classList.add("point-mark");
    const wide = rows[point.row].length * LETTER;
    const places = [[a + 8, b - 20], [a + 10, b - 7], [a - 10 - wide, b - 7], [a - wide / 2, b - 23], [a - wide / 2, b + 9], [a + 8, b + 6], [a - 8 - wide, b - 20], [a - 8 - wide, b + 6]];
    const place = places.find(([left, top]) => free([left, top, left + wide, top + 14])); // where there is none, the tip tells
    if (place) {
      taken.push([place[0], place[1], place[0] + wide, place[1] + 14]);
      draw(svg, "text", { class: "halo", x: place[0], y: place[1] + 11 }, rows[point.row]);
    }
    return { x: a, y: b, lines: [bar.label, `${chart.title} ${bar.text}`, `${readable(point.cost)} ${cost.title}`] };
  });
  missing(host, rows, best, hidden);
  hover(svg, found, 48);
}
