// Every house in a row, the alerts and the commands of all.

import { el, keyed, setAttribute, setText, table } from "./dom.js";
import { age, dayTime, kw, percent, signedKw } from "./format.js";
import { answerOf, resultOf, shownCommand } from "./house.js";
import { ageOf, isStale, state, stateOf } from "./stream.js";

const RANK = ["offline", "silent", "stale", "device offline", "device stale", "no meter", "safe state", "paused", "ok"];
const COLUMNS = [
  { key: "house", title: "House", of: (row) => row.house },
  { key: "load", title: "Load kW", cls: "n wide", of: (row) => row.load, show: (row) => kw(row.load) },
  { key: "pv", title: "PV kW", cls: "n wide", of: (row) => row.pv, show: (row) => kw(row.pv) },
  { key: "battery", title: "Battery kW", cls: "n", of: (row) => row.battery, show: (row) => signedKw(row.battery) },
  { key: "soc", title: "SoC", cls: "n", of: (row) => row.soc, show: (row) => percent(row.soc) },
  { key: "grid", title: "Grid kW", cls: "n", of: (row) => row.grid, show: (row) => signedKw(row.grid) },
  { key: "state", title: "State", of: (row) => RANK.indexOf(stateOf(row)), show: stateOf },
  { key: "age", title: "Data age", cls: "n", of: (row) => ageOf(row.at), show: (row) => (row.at === null ? "–" : age(ageOf(row.at))) },
  { key: "alerts", title: "Alerts", cls: "n", of: (row) => row.troubles.length, show: (row) => (row.troubles.length ? String(row.troubles.length) : "–") },
];
const COMMAND_RANK = ["rejected", "expired", "unanswered", "waiting", "accepted"];

export class FleetView {
  constructor() {
    this.by = { key: "house", down: false };
    this.sums = el("dl", { class: "figures sums" });
    this.services = el("ul", { class: "services" });
    this.filter = el("input", { type: "search", id: "filter", placeholder: "Find a house or a state", oninput: () => this.show() });
    this.whole = table("Houses", [], { seen: false });
    this.head = this.whole.frame.querySelector("thead tr");
    for (const column of COLUMNS) {
      this.head.append(el("th", { scope: "col", class: column.cls, "data-key": column.key },
        el("button", { type: "button", class: "sort", onclick: () => this.sort(column.key) }, column.title)));
    }
    this.alerts = table("Alerts, the newest first", [["Time"], ["House"], ["Severity"], ["What"]], { seen: false });
    this.noAlerts = el("p", { class: "note" }, "No alert since this page's server was started.");
    this.commands = table("The last command of each device", [["House"], ["Device"], ["Time"], ["Asked", "n"], ["Answer"]], { seen: false });
    this.element = el("div", { class: "view" }, el("h1", { class: "unseen" }, "Fleet"),
      this.sums,
      el("section", { class: "card", "aria-labelledby": "houses-title" },
        el("div", { class: "cardhead" }, el("h2", { id: "houses-title" }, "Houses"), el("label", { for: "filter", class: "unseen" }, "Find a house or a state"), this.filter),
        this.whole.frame, this.services),
      el("div", { class: "pair" },
        el("section", { class: "card", "aria-labelledby": "alerts-title" }, el("h2", { id: "alerts-title" }, "Alerts"), this.noAlerts, this.alerts.frame),
        el("section", { class: "card", "aria-labelledby": "commands-title" }, el("h2", { id: "commands-title" }, "Commands"), this.commands.frame)));
    this.alerts.frame.classList.add("low");
    this.commands.frame.classList.add("low");
  }

  sort(key) {
    this.by = { key, down: this.by.key === key ? !this.by.down : key !== "house" && key !== "state" };
    this.show();
  }

  show() {
    const column = COLUMNS.find((one) => one.key === this.by.key);
    for (const th of this.head.children) {
      setAttribute(th, "aria-sort", th.dataset.key === this.by.key ? (this.by.down ? "descending" : "ascending") : null);
    }
    const wanted = this.filter.value.trim().toLowerCase();
    const all = [...state.houses.values()];
    const rows = all.filter((row) => !wanted || row.house.toLowerCase().includes(wanted) || stateOf(row).includes(wanted));
    rows.sort((a, b) => compare(column.of(a), column.of(b), this.by.down) || a.house.localeCompare(b.house, "en", { numeric: true }));
    keyed(this.whole.body, rows, (row) => row.house, makeRow, updateRow);
    this.showSums(all);
    keyed(this.services, state.services, (one) => one.name, (one) => el("li", {}, el("i"), one.name), (item, one) => {
      setAttribute(item, "data-state", one.online ? "ok" : "offline");
      setAttribute(item, "title", one.online ? "online" : "offline");
      item.lastChild.textContent = one.online ? one.name : `${one.name} (offline)`;
    });
    this.showCommands(all);
  }

  showSums(rows) {
    const sum = (name) => rows.reduce((total, row) => total + (isStale(row.at) ? 0 : row[name] ?? 0), 0);
    const bad = rows.filter((row) => !["ok", "paused", "safe state"].includes(stateOf(row))).length;
    const grid = sum("grid"), battery = sum("battery");
    const figures = [
      ["Houses", String(rows.length), bad ? `${bad} not as they should be` : "all heard of", bad ? "bad" : ""],
      ["Load", `${kw(sum("load"))} kW`, `and ${kw(sum("ev"))} kW in cars`],
      ["PV", `${kw(sum("pv"))} kW`, "available"],
      ["Batteries", `${kw(battery)} kW`, battery < 0 ? "discharging" : "charging"],
      ["Grid", `${kw(grid)} kW`, grid < 0 ? "exported" : "imported"],
    ];
    keyed(this.sums, figures, (one) => one[0], (one) => el("div", { class: "figure" }, el("dt", {}, one[0]), el("dd", { class: "big" }), el("dd", { class: "note" })), (item, one) => {
      setText(item.children[1], one[1]);
      setText(item.children[2], one[2]);
      item.children[2].className = `note ${one[3] ?? ""}`;
    });
  }

  showAlerts() {
    this.noAlerts.hidden = state.alerts.length > 0;
    this.alerts.frame.hidden = state.alerts.length === 0;
    keyed(this.alerts.body, state.alerts, (one) => `${one.house} ${one.source} ${one.name} ${one.at} ${one.text}`, (one) => el("tr", {},
      el("td", {}, dayTime(one.at)), el("th", { scope: "row" }, one.house), el("td", {}, el("span", { class: "chip", "data-severity": one.severity }, one.severity)), el("td", { class: "long" }, one.text)), () => {});
  }

  showCommands(rows) {
    const all = rows.flatMap((row) => row.devices.filter((device) => device.command).map((device) => ({ house: row.house, ...device.command })));
    all.sort((a, b) => COMMAND_RANK.indexOf(resultOf(a)) - COMMAND_RANK.indexOf(resultOf(b)) || a.house.localeCompare(b.house, "en", { numeric: true }));
    keyed(this.commands.body, all, (one) => `${one.house} ${one.der}`, (one) => el("tr", {}, el("th", { scope: "row" }, one.house), el("td", {}, one.der), el("td"), el("td", { class: "n" }), el("td", { class: "long" })), (line, one) => {
      const [, , at, asked, answer] = line.children;
      setText(at, dayTime(one.at).split(", ")[1]);
      setText(asked, shownCommand(one));
      setText(answer, answerOf(one));
      setAttribute(answer, "data-result", resultOf(one));
    });
  }
}

function compare(a, b, down) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  return down ? -order : order;
}

function makeRow(row) {
  const link = el("a", { href: `#/house/${row.house}` }, row.house);
  return el("tr", {}, el("th", { scope: "row" }, link),
    ...COLUMNS.slice(1).map((column) => el("td", { class: column.cls }, column.key === "state" ? el("span", { class: "chip" }) : "")));
}

function updateRow(line, row) {
  const how = stateOf(row);
  COLUMNS.forEach((column, index) => {
    if (index === 0) return;
    const cell = line.children[index];
    if (column.key === "state") {
      setText(cell.firstChild, how);
      setAttribute(cell.firstChild, "data-state", how);
    } else setText(cell, column.show(row));
  });
  line.classList.toggle("stale", ["stale", "offline", "silent"].includes(how));
}
