// One house: what it does now and why, its day against the plan, and its devices.

import { Actions } from "./actions.js";
import { Chart, HINT } from "./charts.js";
import { el, keyed, setAttribute, setText, table } from "./dom.js";
import { Flow } from "./flow.js";
import { age, clockTime, dayTime, hourMinute, kw, money, percent, price, signedKw } from "./format.js";
import { ageOf, deviceState, isStale, state, stateOf } from "./stream.js";

const KINDS = { battery_storage: "battery", electric_vehicle: "car", solar_pv: "inverter", flexible_load: "load" };
const HOUR = 3600e3;

function figure(title, ...more) {
  const value = el("dd", { class: "big" }), note = el("dd", { class: "note" });
  return { element: el("div", { class: "figure" }, el("dt", {}, title), value, ...more, note), value, note };
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export class HouseView {
  constructor(choose) {
    this.picker = el("select", { id: "house", onchange: () => choose(this.picker.value) });
    this.badge = el("span", { class: "chip" });
    this.flow = new Flow();
    this.age = el("p", { class: "note center" });
    this.bar = el("div", { class: "bar" }, el("i"));
    this.figures = {
      soc: figure("Battery", this.bar), price: figure("Electricity now"), cost: figure("Cost today"), saved: figure("Saved today"),
    };
    this.why = el("ul", { class: "why" });
    this.held = el("p", { class: "held", hidden: true });
    this.troubles = el("ul", { class: "troubles" });
    this.power = new Chart({ title: "Power", unit: "kW", height: 270, hint: HINT, show: (value) => `${signedKw(value)} kW`, showPrice: (value) => this.priced(value) });
    this.soc = new Chart({ title: "Battery", unit: "%", height: 180, show: percent, showPrice: (value) => this.priced(value) });
    this.hours = table("The next hours, as planned", [["Time"], ["Load kW", "n"], ["PV kW", "n"], ["Grid kW", "n"], ["Battery kW", "n"], ["SoC", "n"], ["Price", "n"]]);
    this.devices = table("Devices, and the last command of each", [["Device"], ["Power", "n"], ["SoC", "n"], ["State"], ["Heard", "n"], ["Command", "n"], ["Answer"]]);
    this.log = table("Commands, the newest first", [["Time"], ["Device"], ["Asked", "n"], ["Answer"], ["Because"]]);
    this.actions = new Actions();
    this.nothing = el("p", { class: "card empty", hidden: true });
    this.body = el("div", { class: "stack" },
      el("div", { class: "now" },
        el("section", { class: "card flowcard", "aria-label": "Power flow now" }, this.flow.element, this.age),
        el("div", { class: "side" },
          el("section", { class: "card whycard", "aria-labelledby": "why-title" }, el("h2", { id: "why-title" }, "Why"), this.held, this.why, this.troubles),
          el("dl", { class: "figures" }, ...Object.values(this.figures).map((one) => one.element)))),
      el("section", { class: "card", "aria-labelledby": "today-title" },
        el("h2", { id: "today-title" }, "Today and the next 48 hours"),
        this.power.element, this.soc.element,
        el("details", {}, el("summary", {}, "As a table"), this.hours.frame)),
      el("section", { class: "card", "aria-labelledby": "devices-title" },
        el("h2", { id: "devices-title" }, "Devices"), this.devices.frame,
        el("details", {}, el("summary", {}, "Command history"), this.log.frame)),
      this.actions.element);
    this.element = el("div", { class: "view" },
      el("div", { class: "headline" }, el("h1", { class: "unseen" }, "House"), el("label", { for: "house", class: "unseen" }, "House"), this.picker, this.badge),
      this.nothing, this.body);
  }

  priced(value) {
    // The day's prices can come a beat before the row's.
    const currency = this.row?.currency || state.day?.prices?.currency;
    return currency ? price(value, currency) : value.toFixed(2);
  }

  /** Show the house `name`; the picker offers all. */
  show(name) {
    const names = [...state.houses.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    if (this.picker.dataset.of !== names.join()) {
      this.picker.dataset.of = names.join();
      this.picker.replaceChildren(...names.map((one) => el("option", { value: one }, one)));
    }
    this.picker.value = name;
    const row = this.row = state.houses.get(name);
    this.body.hidden = !row;
    this.nothing.hidden = !!row;
    this.badge.hidden = this.picker.hidden = names.length === 0;
    if (!row) {
      setText(this.badge, "");
      setText(this.nothing, names.length ? `No house ${name} has been heard of.` : "No house has been heard of yet. As soon as a meter or a device speaks on the bus, it appears here.");
      return;
    }
    this.showNow(row);
    this.showDevices(row);
    this.actions.show(row);
  }

  showNow(row) {
    const how = stateOf(row);
    setText(this.badge, how === "ok" ? "live" : how);
    setAttribute(this.badge, "data-state", how);
    const silent = row.at === null || !row.online || isStale(row.at);
    const stale = new Set(silent ? ["pv", "grid", "load"] : []);
    for (const device of row.devices) {
      if (["stale", "offline"].includes(deviceState(device))) stale.add(device.kind === "electric_vehicle" ? "ev" : "battery");
    }
    this.flow.show(row, stale);
    setText(this.age, row.at === null ? "The meter has not been heard of" : silent ? `No news of the meter for ${age(ageOf(row.at))}` : `Measured at ${clockTime(row.at)}`);
    this.age.classList.toggle("bad", silent);
    this.showFigures(row);
    setText(this.held, row.held.map((hold) => `${capital(hold.mode === "safe" ? "in its safe state" : "paused")} by ${hold.user}${hold.der ? ` (${hold.der})` : ""}${hold.until ? ` until ${hourMinute(hold.until)}` : ""}`).join(". "));
    this.held.hidden = row.held.length === 0;
    const reasons = row.why.length ? row.why : [{ der: "", tier: "", sentence: "Nothing has been decided yet.", at: null }];
    keyed(this.why, reasons, (one) => one.der, () => el("li", {}, el("p"), el("span", { class: "tag" })), (item, one) => {
      setText(item.firstChild, one.sentence);
      const old = one.at !== null && isStale(one.at);
      setText(item.lastChild, one.der ? `${one.der} · ${one.tier}${old ? ` · decided ${age(ageOf(one.at))} ago` : ""}` : "");
      item.classList.toggle("old", old);
    });
    keyed(this.troubles, row.troubles, (one) => one.text, () => el("li"), (item, one) => {
      setText(item, one.text);
      setAttribute(item, "data-severity", one.severity);
    });
  }

  showFigures(row) {
    const { soc, price: now, cost, saved } = this.figures;
    soc.element.hidden = row.soc === null;
    setText(soc.value, percent(row.soc));
    this.bar.firstChild.style.width = `${row.soc ?? 0}%`;
    setText(soc.note, row.battery === null ? "" : Math.abs(row.battery) < 0.015 ? "at rest" : `${row.battery > 0 ? "charging" : "discharging"} with ${kw(row.battery)} kW`);
    setText(now.value, row.price === null ? "–" : `${this.priced(row.price)}/kWh`);
    setText(now.note, row.price === null ? "no price is known" : this.level(row));
    setText(cost.value, money(row.cost, row.currency));
    setText(cost.note, row.since === null ? "once a meter has been read twice" : `of energy, since ${hourMinute(row.since)}`);
    saved.element.hidden = row.saved === null;
    setText(saved.value, money(row.saved, row.currency));
    setText(saved.note, "by the battery, stored energy counted");
  }

  /** How the price stands among those of the next day. */
  level(row) {
    const prices = state.day?.house === row.house ? state.day.prices : null;
    const sell = `export ${this.priced(row.sell)}`;
    if (!prices) return sell;
    const first = Math.max(0, Math.floor((state.now - prices.start_ms) / (prices.step_s * 1000)));
    const next = prices.buy.slice(first, first + (24 * 3600) / prices.step_s);
    const least = Math.min(...next), most = Math.max(...next);
    if (!next.length || most - least < 1e-9) return sell;
    if (row.price <= least) return `lowest for 24 h · ${sell}`;
    const at = prices.start_ms + (first + next.indexOf(least)) * prices.step_s * 1000;
    return `${this.priced(least)} from ${hourMinute(at)} · ${sell}`;
  }

  /** Draw the day: called when it has changed, and as time goes on. */
  showDay() {
    const day = state.day;
    if (!day || !this.row || day.house !== this.row.house) return;
    const plan = day.plan, gap = day.step_s * 2500;
    // Where the day was not seen from its beginning, the room is better spent on what is known.
    const from = Math.max(day.midnight, Math.floor((day.start[0] ?? state.now) / HOUR) * HOUR);
    const to = Math.max(day.midnight + 24 * HOUR, plan ? plan.start_ms + plan.grid.length * plan.step_s * 1000 : 0);
    const shown = day.start.map((at, index) => [at, index]).filter(([at]) => at >= from);
    const measured = (name) => shown.map(([at, index]) => [at + (day.step_s * 1000) / 2, day[name][index]]);
    const ahead = (name, count) => (plan?.[name] ?? []).slice(0, count).map((value, index) => [plan.start_ms + index * plan.step_s * 1000, value])
      .filter(([at]) => at >= state.now - plan.step_s * 1000);
    const planned = (name) => [...shown.map(([at, index]) => [at, day[`planned_${name}`][index]]), ...ahead(name)];
    const reach = Math.max(gap, (plan?.step_s ?? 0) * 1100);
    const pair = (name, title, filled) => [
      { name: title, cls: name, points: measured(name), gap, filled },
      { name: title, cls: name, points: planned(name), planned: true, gap: reach },
    ];
    const bands = this.bands(day, from, to);
    const common = { from, to, now: state.now, bands };
    this.power.show({ ...common, lines: [...pair("pv", "PV", true), ...pair("load", "Load"), ...pair("grid", "Grid")] });
    this.soc.element.hidden = this.row.soc === null;
    this.soc.show({ ...common, low: 0, high: 100, lines: pair("soc", "SoC", true) });
    this.showHours(plan, day.prices);
  }

  bands(day, from, to) {
    const past = day.start.map((at, index) => [at, at + day.step_s * 1000, day.price[index]]).filter(([at, , value]) => at >= from && value !== null);
    const prices = day.prices;
    const ahead = prices ? prices.buy.map((value, index) => {
      const at = prices.start_ms + index * prices.step_s * 1000;
      return [at, at + prices.step_s * 1000, value];
    }) : [];
    const begin = past.at(-1)?.[1] ?? -Infinity;
    const all = [...past, ...ahead.filter(([, end]) => end > begin).map(([at, end, value]) => [Math.max(at, begin, from), end, value])].filter(([at, end]) => at < to && end > at);
    const merged = [];
    for (const [at, end, value] of all) {
      const last = merged.at(-1);
      if (last && last[2] === value && at - last[1] < 1000) last[1] = Math.min(end, to);
      else merged.push([at, Math.min(end, to), value]);
    }
    return merged;
  }

  showHours(plan, prices) {
    const rows = [];
    const every = plan ? Math.max(1, Math.round(3600 / plan.step_s)) : 1;
    for (let i = 0; plan && i < plan.grid.length; i += every) {
      const at = plan.start_ms + i * plan.step_s * 1000;
      const step = prices ? Math.floor((at - prices.start_ms) / (prices.step_s * 1000)) : -1;
      rows.push([dayTime(at), kw(plan.load[i]), kw(plan.pv[i]), signedKw(plan.grid[i]), signedKw(plan.battery[i] ?? null), percent(plan.soc?.[i] ?? null), prices?.buy[step] === undefined ? "–" : this.priced(prices.buy[step])]);
    }
    keyed(this.hours.body, rows, (cells) => cells[0], () => el("tr", {}, el("th", { scope: "row" }), ...Array.from({ length: 6 }, () => el("td", { class: "n" }))), (row, cells) => {
      cells.forEach((text, index) => setText(row.children[index], text));
    });
  }

  showDevices(row) {
    keyed(this.devices.body, row.devices, (one) => one.der, (one) => el("tr", {}, el("th", { scope: "row" }, one.der, el("small", {}, KINDS[one.kind] ?? one.kind)), el("td", { class: "n" }), el("td", { class: "n" }), el("td"), el("td", { class: "n" }), el("td", { class: "n" }), el("td")), (line, one) => {
      const how = deviceState(one);
      const [, power, soc, told, heard, command, answer] = line.children;
      setText(power, `${signedKw(one.kw)} kW`);
      setText(soc, percent(one.soc));
      setText(told, how === "ok" ? (one.following === "safe" ? "safe state" : "following") : how);
      setAttribute(told, "data-state", how === "ok" && one.following === "safe" ? "safe state" : how);
      setText(heard, age(ageOf(one.at)));
      setText(command, one.command ? shownCommand(one.command) : "–");
      setText(answer, one.command ? answerOf(one.command) : "–");
      setAttribute(answer, "data-result", one.command ? resultOf(one.command) : null);
      line.classList.toggle("stale", how === "stale" || how === "offline");
    });
  }

  showCommands() {
    keyed(this.log.body, state.commands, (one) => `${one.der} ${one.at} ${one.until}`, (one) => el("tr", {}, el("th", { scope: "row" }, clockTime(one.at)), el("td", {}, one.der), el("td", { class: "n" }, shownCommand(one)), el("td"), el("td", { class: "long" }, one.reason)), (line, one) => {
      setText(line.children[3], answerOf(one));
      setAttribute(line.children[3], "data-result", resultOf(one));
    });
  }
}

export const shownCommand = (one) => (one.unit === "A" ? `${one.value} A` : `${signedKw(one.value)} kW`);

export const resultOf = (one) => one.result || (state.now > one.until ? "unanswered" : "waiting");

/** A command's answer in words. */
export function answerOf(one) {
  const result = resultOf(one);
  if (result === "accepted") return `accepted ${Math.max(0, (one.answered - one.at) / 1000).toFixed(1)} s later`;
  return one.why ? `${result}: ${one.why}` : result;
}
