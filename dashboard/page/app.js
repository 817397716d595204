// The page: which view is shown, how the connection stands, light or dark.

import { el, say, setAttribute, setText } from "./dom.js";
import { DaysView } from "./days.js";
import { FleetView } from "./fleet.js";
import { clockTime, dayName, setZone, zoneName } from "./format.js";
import { HouseView } from "./house.js";
import { begin, state, unlock, watch } from "./stream.js";
import { tokenForm } from "./token.js";

const FEW_HOUSES = 6;
const main = document.getElementById("main");
const banner = document.getElementById("banner");
const link = document.getElementById("link");
const clock = document.getElementById("clock");
const theme = document.getElementById("theme");

const go = (hash) => { location.hash = hash; };
const views = {
  house: new HouseView((house) => go(`#/house/${house}`)),
  fleet: new FleetView(),
  days: new DaysView((path) => go(`#/days/${path}`)),
};
let shown = "";

/** [view, rest] of the address; without one, what suits the number of houses. */
function route() {
  const [, view, ...rest] = location.hash.split("/");
  if (view in views) return [view, rest.map(decodeURIComponent).join("/")];
  return [state.houses.size > FEW_HOUSES ? "fleet" : "house", ""];
}

function houseOf(rest) {
  if (rest) return rest;
  return [...state.houses.keys()].sort((a, b) => a.localeCompare(b, "en", { numeric: true }))[0] ?? "";
}

function show() {
  const [view, rest] = route();
  if (shown !== view) {
    shown = view;
    main.replaceChildren(views[view].element);
    for (const tab of document.querySelectorAll("nav a")) {
      setAttribute(tab, "aria-current", tab.dataset.view === view ? "page" : null);
    }
  }
  document.title = view === "house" && houseOf(rest) ? `${houseOf(rest)} · wattbus` : "wattbus";
  if (view === "house") {
    const house = houseOf(rest);
    if (house) watch(house);
    views.house.show(house);
  } else if (view === "fleet") {
    views.fleet.show();
    views.fleet.showAlerts();
  }
}

function showLink() {
  const trouble = !state.live && state.now !== null ? "server" : state.live && !state.connected ? "bus" : "";
  setText(link, state.now === null ? "connecting" : trouble ? "no connection" : "connected");
  setAttribute(link, "data-state", state.now === null ? "waiting" : trouble ? "offline" : "ok");
  const text = {
    server: "The connection to the dashboard's server is lost. What you see is old; it is being tried again.",
    bus: "The dashboard has lost the bus: a broker is away. What you see is old; it is being tried again.",
    "": "",
  }[trouble];
  if (banner.hidden !== !text) {
    banner.hidden = !text;
    if (!text && state.now !== null) say("The connection is back.");
  }
  setText(banner, text);
  document.body.classList.toggle("old", trouble !== "");
}

let drawnAt = 0;

/** Reading needs a token: nothing is shown before. */
function showLock() {
  shown = "";
  state.now = null;
  main.replaceChildren(el("section", { class: "card", "aria-labelledby": "lock-title" },
    el("h1", { id: "lock-title" }, "Who are you?"), el("p", {}, "This page shows a house to who has its token, and all to who has the site's."),
    tokenForm(begun), el("p", { class: "note", role: "status" }, state.mistaken ? "Nobody here has that token." : "")));
}

/** From here on what is heard draws the page. */
function begun() {
  unlock();
  const [view, rest] = route();
  if (view === "days") {
    show();
    views.days.show(rest);
  }
}

function took(name) {
  if (name === "locked") showLock();
  if (name === "hello") setZone(state.hello.timezone);
  if (name === "hello" || state.now === null) return;
  if (name === "fleet") {
    const [day, time, zone] = clock.children;
    setText(day, dayName(state.now));
    setText(time, clockTime(state.now));
    setText(zone, zoneName(state.now));
    setAttribute(clock, "datetime", new Date(state.now).toISOString());
    show();
  }
  if (name === "alerts" && shown === "fleet") views.fleet.showAlerts();
  if (name === "commands") views.house.showCommands();
  // "now" moves on in the chart by itself, every half minute of the time shown.
  if (shown === "house" && (name === "day" || state.now - drawnAt > 30e3)) {
    drawnAt = state.now;
    views.house.showDay();
  }
  showLink();
}

function showTheme() {
  const chosen = document.documentElement.dataset.theme;
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  setText(theme, dark ? "Light" : "Dark");
  setAttribute(theme, "aria-label", dark ? "Use light colours" : "Use dark colours");
}

theme.addEventListener("click", () => {
  const wanted = theme.textContent.toLowerCase();
  document.documentElement.dataset.theme = wanted;
  localStorage.setItem("theme", wanted);
  showTheme();
});
const kept = localStorage.getItem("theme");
if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
addEventListener("hashchange", () => {
  if (state.locked) return;
  const before = shown;
  show();
  const [view, rest] = route();
  if (view === "days") views.days.show(rest);
  if (before !== shown) main.focus({ preventScroll: true });
});

main.append(el("p", { class: "card empty" }, "Waiting for the first news…"));
showTheme();
showLink();
const [asked, rest] = route();
if (asked === "house" && rest) watch(rest);
begin(took);
if (asked === "days") {
  show();
  views.days.show(rest);
}
