// Charts over time, drawn as SVG: measured lines, planned lines, and the price behind them.

import { el, setAttribute, setText, svg } from "./dom.js";
import { dayName, dayTime, hourMinute, offset } from "./format.js";

const HOUR = 3600e3;
const MARGIN = { top: 16, right: 50, bottom: 26, left: 40 };
export const HINT = "Point at the chart, or use the arrow keys, to read it.";

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
}

/** A line through [time, value] points, broken where a value is missing or a gap is longer than `gap`. */
function line(points, x, y, gap) {
  let path = "", last = null;
  for (const [at, value] of points) {
    if (value === null || value === undefined) { last = null; continue; }
    path += `${last === null || at - last > gap ? "M" : "L"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    last = at;
  }
  return path;
}

/** The same filled down to zero. */
function area(points, x, y, gap) {
  let path = "", run = [];
  const close = () => {
    if (run.length > 1) {
      path += `M${x(run[0][0]).toFixed(1)} ${y(0).toFixed(1)}`;
      for (const [at, value] of run) path += `L${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      path += `L${x(run.at(-1)[0]).toFixed(1)} ${y(0).toFixed(1)}Z`;
    }
    run = [];
  };
  for (const point of points) {
    if (point[1] === null || point[1] === undefined) { close(); continue; }
    if (run.length && point[0] - run.at(-1)[0] > gap) close();
    run.push(point);
  }
  close();
  return path;
}

/** Prices as steps: [from, to, value] each. */
function steps(bands, x, y, bottom) {
  return bands.map(([from, to, value]) =>
    `M${x(from).toFixed(1)} ${bottom}V${y(value).toFixed(1)}H${x(to).toFixed(1)}V${bottom}Z`).join("");
}

function valueAt(points, at, gap) {
  let low = 0, high = points.length - 1;
  if (high < 0) return null;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (points[middle][0] <= at) low = middle; else high = middle - 1;
  }
  const [time, value] = points[low];
  return time <= at && at - time <= gap ? value : null;
}

/**
 * One chart.
 *
 * data: { from, to, now, lines: [{ name, cls, points, planned, filled, gap }], bands: [[from, to, price]], low, high }
 */
export class Chart {
  constructor({ title, unit, height, show, showPrice = null, hint = "" }) {
    this.options = { title, unit, height, show, showPrice, hint };
    this.data = null;
    this.at = null;
    this.picture = svg("svg", { class: "chart", "aria-hidden": "true" });
    this.readout = el("output", { class: "readout" });
    this.frame = el("div", {
      class: "plot", tabindex: "0", role: "slider", "aria-label": `${title}: move through time with the arrow keys`,
      onkeydown: (event) => this.key(event), onblur: () => this.point(null),
      onpointermove: (event) => this.pointer(event), onpointerdown: (event) => this.pointer(event),
      onpointerleave: () => this.point(null),
    }, this.picture);
    this.legend = el("ul", { class: "legend" });
    this.element = el("section", { class: "chartbox" },
      el("div", { class: "charthead" }, el("h3", {}, title, el("span", { class: "unitof" }, unit)), this.legend), this.readout, this.frame);
    new ResizeObserver(() => this.draw()).observe(this.frame);
  }

  show(data) {
    this.data = data;
    const names = data.lines.filter((one) => !one.planned).map((one) => [one.name, one.cls]);
    const legend = [...names.map(([name, cls]) => `${cls}|${name}`), ...(data.lines.some((one) => one.planned) ? ["plan|planned"] : []),
      ...(data.bands?.length ? ["price|price"] : [])].join();
    if (this.legend.dataset.of !== legend) {
      this.legend.dataset.of = legend;
      this.legend.replaceChildren(...legend.split(",").map((text) => {
        const [cls, name] = text.split("|");
        return el("li", {}, el("i", { class: `key ${cls}` }), name);
      }));
    }
    this.draw();
  }

  scales(width) {
    const { data, options } = this;
    const values = data.lines.flatMap((one) => one.points.map((point) => point[1])).filter((value) => value !== null && value !== undefined);
    const low = data.low ?? Math.min(0, ...values);
    const top = data.high ?? Math.max(1, ...values);
    const high = data.high ?? top + (top - low) * 0.06;
    const bottom = options.height - MARGIN.bottom;
    const x = (at) => MARGIN.left + ((at - data.from) / (data.to - data.from)) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);
    return { x, y, low, high, bottom };
  }

  draw() {
    const width = this.frame.clientWidth;
    if (!this.data || width < 50) return;
    const { data, options } = this;
    const { x, y, low, high, bottom } = this.scales(width);
    const right = width - MARGIN.right;
    const parts = [];
    if (data.bands?.length) {
      const prices = data.bands.map((band) => band[2]);
      const least = Math.min(0, ...prices), most = Math.max(...prices) || 1;
      const py = (value) => bottom - ((value - least) / (most - least || 1)) * (bottom - MARGIN.top) * 0.92;
      parts.push(svg("path", { d: steps(data.bands, x, py, bottom), class: "pricearea" }));
      for (const value of [...new Set([Math.min(...prices), most])]) {
        parts.push(svg("text", { x: right + 5, y: py(value) + 4, class: "tick pricetick" }, options.showPrice(value)));
      }
    }
    if (data.now !== null && data.now < data.to && data.now > data.from) {
      parts.push(svg("rect", { x: x(data.now), y: MARGIN.top, width: right - x(data.now), height: bottom - MARGIN.top, class: "future" }));
    }
    for (const value of ticks(low, high, options.height > 200 ? 5 : 4)) {
      parts.push(svg("line", { x1: MARGIN.left, x2: right, y1: y(value), y2: y(value), class: value === 0 ? "zero" : "rule" }));
      parts.push(svg("text", { x: MARGIN.left - 6, y: y(value) + 4, class: "tick", "text-anchor": "end" }, `${Math.round(value * 100) / 100}`.replace("-", "−")));
    }
    this.timeAxis(parts, x, bottom, width);
    for (const one of data.lines) {
      if (one.filled) parts.push(svg("path", { d: area(one.points, x, y, one.gap), class: `fill ${one.cls}` }));
      parts.push(svg("path", { d: line(one.points, x, y, one.gap), class: `line ${one.cls}${one.planned ? " planned" : ""}` }));
    }
    if (data.now !== null && data.now <= data.to && data.now >= data.from) {
      parts.push(svg("line", { x1: x(data.now), x2: x(data.now), y1: MARGIN.top - 4, y2: bottom, class: "nowline" }));
      parts.push(svg("text", { x: x(data.now), y: MARGIN.top - 3, class: "tick nowtick", "text-anchor": "middle" }, "now"));
    }
    this.cursor = svg("line", { y1: MARGIN.top, y2: bottom, class: "cursor", hidden: true });
    this.picture.replaceChildren(...parts, this.cursor);
    setAttribute(this.picture, "viewBox", `0 0 ${width} ${options.height}`);
    setAttribute(this.picture, "height", options.height);
    setAttribute(this.frame, "aria-valuemin", 0);
    setAttribute(this.frame, "aria-valuemax", Math.round((data.to - data.from) / (HOUR / 4)));
    this.point(this.at);
  }

  timeAxis(parts, x, bottom, width) {
    const { from, to } = this.data;
    const perHour = (width - MARGIN.left - MARGIN.right) / ((to - from) / HOUR);
    const every = [1, 2, 3, 6, 12, 24].find((hours) => hours * perHour >= 46) ?? 24;
    const shift = offset(from);
    for (let at = Math.ceil((from + shift) / (every * HOUR)) * every * HOUR - shift; at <= to; at += every * HOUR) {
      const is_midnight = hourMinute(at) === "00:00";
      parts.push(svg("line", { x1: x(at), x2: x(at), y1: is_midnight ? MARGIN.top : bottom, y2: bottom + 4, class: is_midnight ? "midnight" : "zero" }));
      if (x(at) > width - MARGIN.right) continue;
      parts.push(svg("text", { x: x(at), y: bottom + 17, class: is_midnight ? "tick day" : "tick", "text-anchor": "middle" }, is_midnight ? dayName(at) : hourMinute(at)));
    }
  }

  pointer(event) {
    if (!this.data) return;
    const box = this.frame.getBoundingClientRect();
    const share = (event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right);
    this.point(this.data.from + Math.min(1, Math.max(0, share)) * (this.data.to - this.data.from));
  }

  key(event) {
    if (!this.data) return;
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 12, PageDown: -12 }[event.key];
    const { from, to, now } = this.data;
    if (step) this.point(Math.min(to, Math.max(from, (this.at ?? now ?? from) + (step * HOUR) / 4)));
    else if (event.key === "Home") this.point(from);
    else if (event.key === "End") this.point(to);
    else if (event.key === "Escape") this.point(null);
    else return;
    event.preventDefault();
  }

  /** Read the chart out at a moment; null: no more. */
  point(at) {
    this.at = at;
    if (!this.data || !this.cursor) return;
    setAttribute(this.cursor, "hidden", at === null);
    if (at === null) {
      setText(this.readout, this.options.hint);
      this.readout.classList.add("hint");
      setAttribute(this.frame, "aria-valuenow", 0);
      setAttribute(this.frame, "aria-valuetext", "no moment chosen");
      return;
    }
    const { x } = this.scales(this.frame.clientWidth);
    setAttribute(this.cursor, "x1", x(at));
    setAttribute(this.cursor, "x2", x(at));
    const told = [];
    for (const one of this.data.lines) {
      const value = valueAt(one.points, at, one.gap);
      if (value !== null && value !== undefined) told.push(`${one.name} ${this.options.show(value)}${one.planned ? " (plan)" : ""}`);
    }
    const band = this.data.bands?.find(([from, to]) => from <= at && at < to);
    if (band) told.push(this.options.showPrice(band[2]));
    const text = `${dayTime(at)}  ·  ${told.join("  ·  ") || "nothing known"}`;
    setText(this.readout, text);
    this.readout.classList.remove("hint");
    setAttribute(this.frame, "aria-valuenow", Math.round((at - this.data.from) / (HOUR / 4)));
    setAttribute(this.frame, "aria-valuetext", text);
  }
}
