// The one stream from the server. The page never asks again by itself: it is told.

import { bearer, forgetToken, hasToken } from "./token.js";

const SILENT_MS = 6000;
const RETRY_MS = 2000;

/** What is known; filled by the stream, read by the views. */
export const state = {
  hello: { timezone: "UTC", speed: 1, stale_s: 25, may_act: false },
  now: null,
  connected: true,
  services: [],
  refused: 0,
  houses: new Map(),
  alerts: [],
  day: null,
  commands: [],
  live: false,
  locked: false,
  mistaken: false, // the token that was given last is none
};

let listening = null;
let watched = "";
let heardAt = 0;
let retry = null;
let changed = () => {};

const TAKE = {
  hello: (hello) => { state.hello = hello; },
  fleet: (fleet) => {
    state.now = fleet.now;
    state.connected = fleet.connected;
    state.services = fleet.services;
    state.refused = fleet.refused;
    if (fleet.full) state.houses = new Map();
    for (const row of fleet.houses) state.houses.set(row.house, row);
  },
  day: (day) => { state.day = day; },
  commands: (commands) => { state.commands = commands; },
  alerts: (alerts) => { state.alerts = alerts; },
};

/** One server-sent event: two lines, `event: NAME` and `data: JSON`. */
function take(text) {
  const [first, second] = text.split("\n");
  const name = first.slice("event: ".length);
  heardAt = performance.now();
  TAKE[name](JSON.parse(second.slice("data: ".length)));
  state.live = true;
  changed(name);
}

/** An EventSource could not show the token. */
async function listen(signal) {
  const answer = await fetch(`/api/stream?house=${encodeURIComponent(watched)}`, { headers: bearer(), signal });
  if (answer.status === 401) {
    state.mistaken = hasToken();
    forgetToken();
    state.locked = true;
    changed("locked");
    return;
  }
  if (!answer.ok) throw new Error(`answers ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the stream has ended");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      try {
        take(event);
      } catch (error) {
        reportError(error); // ours, and no reason to ask the server again
      }
    }
  }
}

function open() {
  clearTimeout(retry);
  listening?.abort();
  const { signal } = (listening = new AbortController());
  heardAt = performance.now();
  listen(signal).catch(() => {
    if (signal.aborted) return;
    lost();
    retry = setTimeout(open, RETRY_MS);
  });
}

/** Try again, with the token that is there now. */
export function unlock() {
  state.locked = false;
  open();
}

function lost() {
  if (!state.live) return;
  state.live = false;
  changed("link");
}

/** Begin; `handler` is called with the name of each event. */
export function begin(handler) {
  changed = handler;
  open();
  // A connection can be dead without a word, as after a laptop's sleep.
  setInterval(() => {
    if (state.locked || performance.now() - heardAt < SILENT_MS) return;
    lost();
    open();
  }, 1000);
}

/** From now on this house's day and commands come too. */
export function watch(house) {
  if (house === watched) return;
  watched = house;
  state.day = null;
  state.commands = [];
  if (listening && !state.locked) open();
}

/** How long ago something was said, in seconds of the run's own time. */
export const ageOf = (ms) => (ms === null || state.now === null ? Infinity : Math.max(0, (state.now - ms) / 1000));

export const isStale = (ms) => ageOf(ms) > state.hello.stale_s;

/** ok, stale, offline or none: how a house is heard. */
export function stateOf(row) {
  if (row.at === null) return row.devices.length ? "no meter" : "silent";
  if (!row.online) return "offline";
  if (isStale(row.at)) return "stale";
  if (row.devices.some((device) => deviceState(device) === "offline")) return "device offline";
  if (row.devices.some((device) => deviceState(device) === "stale")) return "device stale";
  if (row.held.some((hold) => hold.mode === "safe")) return "safe state";
  if (row.held.length) return "paused";
  return "ok";
}

export function deviceState(device) {
  if (!device.online) return "offline";
  if (isStale(device.at)) return "stale";
  if (device.away) return "away";
  return "ok";
}
