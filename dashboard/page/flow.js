// The house's power flow as a picture: direction, size and colour.

import { el, setAttribute, setText, svg } from "./dom.js";
import { kw, percent } from "./format.js";

const IDLE_KW = 0.015;
const FULL_KW = 6;
const RADIUS = 37;
const RING = 2 * Math.PI * (RADIUS + 5);
const HUB = { x: 220, y: 168 };

const ICONS = {
  pv: "M12 7.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8",
  grid: "M12 2 6 22M12 2l6 20M8.5 9h7M7.3 14h9.4M8.5 9l8.2 5M15.5 9l-8.2 5",
  load: "M3.5 11.5 12 4l8.5 7.5M6 9.5V20h12V9.5M10 20v-6h4v6",
  battery: "M4 8h14a1.5 1.5 0 0 1 1.5 1.5v5A1.5 1.5 0 0 1 18 16H4a1.5 1.5 0 0 1-1.5-1.5v-5A1.5 1.5 0 0 1 4 8M22 10.5v3M12 9l-2.5 3.2h3L10 15",
  ev: "M4 16v-3.5l2-5A2 2 0 0 1 7.9 6h8.2A2 2 0 0 1 18 7.500l2 5V16a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1M4.500 12h15M7.500 17v2M16.500 17v2M8 14.500h.01M16 14.500h.01",
};

// Where each stands, where its label is from there, and whether + flows towards the hub.
const NODES = {
  pv: { at: [220, 48], label: [54, -6, "start"], name: "Solar", inwards: true },
  grid: { at: [62, 168], label: [0, 62, "middle"], name: "Grid", inwards: true },
  load: { at: [378, 168], label: [0, 62, "middle"], name: "House", inwards: false },
  battery: { at: [150, 288], label: [-52, 24, "end"], name: "Battery", inwards: false },
  ev: { at: [290, 288], label: [52, 24, "start"], name: "Car", inwards: false },
};
/** The battery of a house without a car. */
const ALONE = { at: [220, 288], label: [54, -2, "start"] };

/** What a flow is called in one word. */
function word(name, value, row) {
  if (value === null) return "";
  if (name === "ev" && row.devices.some((device) => device.kind === "electric_vehicle" && device.away) && value < IDLE_KW) return "away";
  if (Math.abs(value) < IDLE_KW) return name === "pv" ? "no sun" : "idle";
  switch (name) {
    case "pv": return row.curtailed > IDLE_KW ? `${kw(row.curtailed)} kW unused` : "producing";
    case "grid": return value > 0 ? "importing" : "exporting";
    case "battery": return value > 0 ? "charging" : "discharging";
    case "ev": return "charging";
    default: return "using";
  }
}

/** The line from a node's edge to the hub. */
function path([x, y]) {
  const dx = HUB.x - x, dy = HUB.y - y;
  const edge = (RADIUS + 7) / Math.hypot(dx, dy);
  return `M${(x + dx * edge).toFixed(1)} ${(y + dy * edge).toFixed(1)}L${HUB.x} ${HUB.y}`;
}

export class Flow {
  constructor() {
    this.parts = {};
    this.picture = svg("svg", { viewBox: "-22 0 484 336", class: "flow", role: "img" });
    const links = svg("g"), nodes = svg("g");
    for (const [name, node] of Object.entries(NODES)) {
      const part = this.parts[name] = this.part(name, node);
      links.append(part.link);
      nodes.append(part.whole);
      this.place(part, node);
    }
    this.picture.append(links, svg("circle", { cx: HUB.x, cy: HUB.y, r: 7, class: "hub" }), nodes);
    this.element = el("figure", { class: "flowbox" }, this.picture);
  }

  part(name, node) {
    const track = svg("path", { class: "track" }), pulse = svg("path", { class: "pulse" });
    const ring = svg("circle", { r: RADIUS + 5, class: "soc", "stroke-dasharray": `0 ${RING}`, transform: "rotate(-90)" });
    const value = svg("text", { y: 17, class: "value", "text-anchor": "middle" });
    const title = svg("text", { class: "name" }, node.name), state = svg("text", { class: "state" });
    const whole = svg("g", { class: `node ${name}` },
      svg("circle", { r: RADIUS, class: "disc" }), svg("circle", { r: RADIUS + 5, class: "socback" }), ring,
      svg("path", { d: ICONS[name], class: "icon", transform: "translate(-11 -27) scale(.92)" }),
      value, svg("text", { y: 28, class: "unit", "text-anchor": "middle" }, "kW"), title, state);
    return { link: svg("g", { class: `link ${name}` }, track, pulse), track, pulse, ring, value, title, state, whole };
  }

  place(part, { at, label: [x, y, anchor] }) {
    setAttribute(part.whole, "transform", `translate(${at[0]} ${at[1]})`);
    setAttribute(part.track, "d", path(at));
    setAttribute(part.pulse, "d", path(at));
    for (const [text, below] of [[part.title, 0], [part.state, 16]]) {
      setAttribute(text, "x", x);
      setAttribute(text, "y", y + below);
      setAttribute(text, "text-anchor", anchor);
    }
  }

  /** Show a house's row; `stale` names what has been silent for too long. */
  show(row, stale) {
    const told = [];
    this.place(this.parts.battery, row.ev === null ? ALONE : NODES.battery);
    for (const name of Object.keys(NODES)) {
      const part = this.parts[name];
      const value = row[name];
      const is_there = value !== null || name === "pv" || name === "grid" || name === "load";
      setAttribute(part.whole, "hidden", !is_there);
      setAttribute(part.link, "hidden", !is_there);
      if (!is_there) continue;
      const is_stale = stale.has(name);
      const text = is_stale ? "no news" : word(name, value, row);
      setText(part.value, kw(value));
      setText(part.state, text);
      part.whole.classList.toggle("stale", is_stale);
      const soc = this.socOf(name, row);
      setText(part.title, soc === null ? NODES[name].name : `${NODES[name].name} ${percent(soc)}`);
      setAttribute(part.ring, "stroke-dasharray", `${((soc ?? 0) / 100) * RING} ${RING}`);
      this.flow(part, NODES[name], is_stale ? 0 : value ?? 0);
      told.push(`${NODES[name].name} ${text || "unknown"} ${value === null ? "" : `${kw(value)} kW`}${soc === null ? "" : `, ${percent(soc)} full`}`);
    }
    setAttribute(this.picture, "aria-label", `Power flow. ${told.join(". ")}.`);
  }

  socOf(name, row) {
    if (name === "battery") return row.soc;
    if (name !== "ev") return null;
    return row.devices.find((device) => device.kind === "electric_vehicle" && device.soc !== null)?.soc ?? null;
  }

  flow(part, node, value) {
    const size = Math.abs(value);
    const flows = size >= IDLE_KW;
    part.link.classList.toggle("flowing", flows);
    // A path runs from the node to the hub.
    part.link.classList.toggle("back", flows && value > 0 !== node.inwards);
    setAttribute(part.link, "data-direction", flows ? (value > 0 === node.inwards ? "in" : "out") : "none");
    part.track.style.strokeWidth = `${flows ? 2.5 + 7 * Math.sqrt(Math.min(size / FULL_KW, 1)) : 2}px`;
    // A few speeds only: each change makes the dots jump.
    const pace = size > 4 ? 1.2 : size > 1.5 ? 1.8 : size > 0.4 ? 2.6 : 4;
    part.pulse.style.animationDuration = `${pace}s`;
  }
}
