// Asking something of a house: only with the site's token.

import { el, say, setText } from "./dom.js";
import { dayTime, fromLocal, localInput } from "./format.js";
import { state } from "./stream.js";
import { bearer, forgetToken, hasToken, tokenForm } from "./token.js";

const WORDS = { pause: "Pause", resume: "Resume", safe: "Safe state", release: "Release" };
const MEANS = {
  pause: "No economic dispatch any more, until you resume it. Limits are still kept.",
  resume: "Plans and prices decide again.",
  safe: "Everything rests: the battery at 0 kW, the car at 0 A, until you release it.",
  release: "Plans and prices decide again.",
};

async function ask(house, body) {
  const answer = await fetch(`/api/houses/${encodeURIComponent(house)}/requests`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...bearer() },
    body: JSON.stringify(body),
  });
  const told = await answer.json();
  if (answer.status === 401) forgetToken();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}

export class Actions {
  constructor() {
    this.house = null;
    this.note = el("p", { class: "note", role: "status" });
    this.buttons = el("div", { class: "row" });
    this.form = this.carForm();
    this.unlock = tokenForm(() => {
      this.say("Unlocked, until this page is closed.");
      this.show(this.house);
    });
    this.dialog = el("dialog", { "aria-labelledby": "ask-title" });
    this.element = el("section", { class: "card actions", "aria-labelledby": "actions-title" },
      el("h2", { id: "actions-title" }, "Operate"), this.unlock, this.buttons, this.form, this.note, this.dialog);
  }

  carForm() {
    this.car = el("select", { id: "car" });
    this.departure = el("input", { type: "datetime-local", id: "departure" });
    this.target = el("input", { type: "number", id: "target", min: "0", max: "100", step: "5" });
    return el("form", {
      class: "row car",
      onsubmit: (event) => {
        event.preventDefault();
        const body = { action: "ev_plan", der_id: this.car.value };
        if (this.departure.value) body.departure_at = new Date(fromLocal(this.departure.value)).toISOString();
        if (this.target.value) body.target_soc_percent = Number(this.target.value);
        this.send(body, `plan of ${this.car.value}`);
      },
    },
    el("label", { for: "car" }, "Car"), this.car,
    el("label", { for: "departure" }, "leaves"), this.departure,
    el("label", { for: "target" }, "with at least"), this.target, el("span", {}, "%"), el("button", {}, "Set"));
  }

  /** Show what can be asked of a house. */
  show(row) {
    const is_other = row?.house !== this.house?.house;
    this.house = row;
    const may = state.hello.may_act;
    this.unlock.hidden = !may || hasToken();
    this.buttons.hidden = this.form.hidden = !may || !hasToken();
    if (!may) setText(this.note, `This page only shows. To operate houses from it, ${hasToken() ? "give it the site's token" : "start it with a token: WATTBUS_DASHBOARD_TOKEN"}.`);
    if (!may || !hasToken() || !row) return;
    const held = new Set(row.held.filter((hold) => hold.der === null).map((hold) => hold.mode));
    const wanted = [held.has("pause") ? "resume" : "pause", held.has("safe") ? "release" : "safe"].join();
    if (this.buttons.dataset.of !== wanted) {
      this.buttons.dataset.of = wanted;
      this.buttons.replaceChildren(...wanted.split(",").map((action) => el("button", {
        type: "button", class: action === "safe" ? "danger" : null, "data-action": action, onclick: () => this.confirm(action),
      }, WORDS[action])));
    }
    const cars = row.devices.filter((device) => device.kind === "electric_vehicle");
    this.form.hidden = cars.length === 0;
    const names = cars.map((car) => car.der).join();
    if (is_other || this.car.dataset.of !== names) {
      this.car.dataset.of = names;
      this.car.replaceChildren(...cars.map((car) => el("option", { value: car.der }, car.der)));
      this.departure.value = cars[0]?.departure ? localInput(cars[0].departure) : "";
      this.target.value = cars[0]?.target ?? "";
    }
  }

  confirm(action) {
    const house = this.house.house;
    const reason = el("input", { type: "text", id: "reason", maxlength: "200", autocomplete: "off" });
    const close = () => this.dialog.close();
    this.dialog.replaceChildren(
      el("h2", { id: "ask-title" }, `${WORDS[action]}: ${house}`),
      el("p", {}, MEANS[action]),
      el("form", {
        onsubmit: (event) => {
          event.preventDefault();
          close();
          this.send({ action, reason: reason.value }, WORDS[action].toLowerCase());
        },
      },
      el("label", { for: "reason" }, "Why (written down)"), reason,
      el("div", { class: "row end" }, el("button", { type: "button", class: "quiet", onclick: close }, "Cancel"),
        el("button", { class: action === "safe" ? "danger" : null, id: "ask-go" }, WORDS[action]))),
    );
    this.dialog.showModal();
  }

  async send(body, what) {
    const house = this.house.house;
    try {
      await ask(house, body);
      this.say(`Asked at ${dayTime(state.now)}: ${what}, of ${house}. What became of it stands in the alerts.`);
    } catch (error) {
      this.say(`Not asked: ${error.message}`);
    }
    this.show(this.house);
  }

  say(text) {
    setText(this.note, text);
    say(text);
  }
}
