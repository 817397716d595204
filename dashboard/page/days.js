// Recorded days: choose a house and a date, see it, take the CSV along.

import { Chart, HINT } from "./charts.js";
import { el, keyed, setText, table } from "./dom.js";
import { hourMinute } from "./format.js";
import { bearer, fetched, hasToken } from "./token.js";

const DAY = 24 * 3600e3;

/** How long the browser has to begin to save a file. */
const SAVE_MS = 60e3;

/** A link can't show the token: with one the file is fetched, and handed over from memory. */
async function download(href) {
  const answer = await fetch(href, { headers: bearer() });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  const url = URL.createObjectURL(await answer.blob());
  const [, house, meter, day] = new URL(href).pathname.match(/recordings\/([^/]+)\/([^/]+)\/([^/]+)/);
  el("a", { href: url, download: `${house}_${meter}_${day}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), SAVE_MS);
}

export class DaysView {
  constructor(choose) {
    this.meters = [];
    this.shown = "";
    this.choose = choose;
    this.meter = el("select", { id: "meter", onchange: () => this.pick(this.meter.value, null) });
    this.date = el("select", { id: "date", onchange: () => this.pick(this.meter.value, this.date.value) });
    this.download = el("a", { class: "button", download: "", hidden: true, onclick: (event) => this.save(event) }, "Download CSV");
    this.note = el("p", { class: "note", role: "status" });
    this.figures = el("dl", { class: "figures" });
    this.chart = new Chart({ title: "Measured", unit: "kW", height: 280, hint: HINT, show: (value) => `${value.toFixed(2)} kW` });
    this.hours = table("Means of each hour", [["Time"], ["Meter kW", "n"], ["PV kW", "n"]], { seen: false });
    this.body = el("div", { class: "stack", hidden: true }, this.figures, el("section", { class: "card" }, this.chart.element, el("details", {}, el("summary", {}, "As a table"), this.hours.frame)));
    this.element = el("div", { class: "view" }, el("h1", { class: "unseen" }, "Recorded days"),
      el("section", { class: "card" }, el("div", { class: "row" }, el("label", { for: "meter" }, "House"), this.meter, el("label", { for: "date" }, "Day"), this.date, this.download), this.note),
      this.body);
  }

  pick(meter, day) {
    this.choose(`${meter}/${day ?? this.meters.find((one) => `${one.house}/${one.meter}` === meter)?.days[0] ?? ""}`);
  }

  async save(event) {
    if (!hasToken()) return;
    event.preventDefault();
    try {
      await download(this.download.href);
      setText(this.note, "");
    } catch (error) {
      setText(this.note, `Not saved: ${error.message}`);
    }
  }

  /** Show `house/meter/day`, or the latest there is. */
  async show(path) {
    try {
      this.meters = await fetched("/api/recordings");
      const [house, meter, day] = path.split("/");
      const one = this.meters.find((known) => known.house === house && (!meter || known.meter === meter)) ?? this.meters[0];
      const any = one !== undefined;
      this.body.hidden = !any;
      this.meter.disabled = this.date.disabled = !any;
      if (!any) {
        this.download.hidden = true;
        setText(this.note, "Nothing is recorded yet, or this page's server was not told where: --data-dir.");
        return;
      }
      this.offer(one, one.days.includes(day) ? day : one.days[0]);
      await this.load(one, this.date.value);
    } catch (error) {
      this.body.hidden = true;
      setText(this.note, `Not shown: ${error.message}`);
    }
  }

  offer(one, day) {
    this.meter.replaceChildren(...this.meters.map((known) => {
      const name = `${known.house}/${known.meter}`;
      return el("option", { value: name }, known.meter === "main" ? known.house : name.replace("/", ", "));
    }));
    this.meter.value = `${one.house}/${one.meter}`;
    this.date.replaceChildren(...one.days.map((known) => el("option", { value: known }, known)));
    this.date.value = day;
  }

  async load(one, day) {
    const path = `/api/recordings/${one.house}/${one.meter}/${day}`;
    this.download.href = `${path}/csv`;
    this.download.hidden = false;
    setText(this.note, "");
    const told = await fetched(path);
    const peak = Math.max(0, ...told.meter_w) / 1000;
    const figures = [["Rows", String(told.rows), told.unreadable ? `${told.unreadable} lines can't be read` : told.file], ["Meter", `${told.meter_kwh.toFixed(2)} kWh`, `at most ${peak.toFixed(2)} kW in 5 min`], ["PV", told.pv_w.some((value) => value !== null) ? `${told.pv_kwh.toFixed(2)} kWh` : "–", "available"]];
    this.figures.replaceChildren(...figures.map(([title, value, note]) => el("div", { class: "figure" }, el("dt", {}, title), el("dd", { class: "big" }, value), el("dd", { class: "note" }, note))));
    const points = (values) => told.start.map((at, index) => [at + told.step_s * 500, values[index] === null ? null : values[index] / 1000]);
    const first = told.start[0] ?? Date.parse(`${day}T00:00Z`), last = told.start.at(-1) ?? first;
    const length = Math.max(3600e3, Math.min(DAY, last - first + told.step_s * 1000));
    const gap = told.step_s * 2500;
    this.body.hidden = false;
    this.chart.show({ from: first, to: first + length, now: null, lines: [{ name: "PV", cls: "pv", points: points(told.pv_w), gap, filled: true }, { name: "Meter", cls: "load", points: points(told.meter_w), gap }] });
    keyed(this.hours.body, hourly(told), (cells) => cells[0], () => el("tr", {}, el("th", { scope: "row" }), el("td", { class: "n" }), el("td", { class: "n" })), (row, cells) => cells.forEach((text, index) => setText(row.children[index], text)));
  }
}

/** [time, meter, PV] of each hour. */
function hourly(told) {
  const hours = new Map();
  told.start.forEach((at, index) => {
    const hour = Math.floor(at / 3600e3) * 3600e3;
    const sums = hours.get(hour) ?? [0, 0, 0, 0];
    sums[0] += told.meter_w[index];
    sums[1] += 1;
    if (told.pv_w[index] !== null) { sums[2] += told.pv_w[index]; sums[3] += 1; }
    hours.set(hour, sums);
  });
  return [...hours].map(([at, [meter, count, pv, known]]) => [hourMinute(at), (meter / count / 1000).toFixed(2), known ? (pv / known / 1000).toFixed(2) : "–"]);
}
