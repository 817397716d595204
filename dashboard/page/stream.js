// The one stream from the server. The page never asks again by itself: it is told.

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
};

let source = null;
let watched = "";
let heardAt = 0;
let retry = null;
let changed = () => {};

function take(name, handler) {
  source.addEventListener(name, (message) => {
    heardAt = performance.now();
    handler(JSON.parse(message.data));
    state.live = true;
    changed(name);
  });
}

function open() {
  clearTimeout(retry);
  source?.close();
  heardAt = performance.now();
  source = new EventSource(`/api/stream?house=${encodeURIComponent(watched)}`);
  take("hello", (hello) => { state.hello = hello; });
  take("fleet", (fleet) => {
    state.now = fleet.now;
    state.connected = fleet.connected;
    state.services = fleet.services;
    state.refused = fleet.refused;
    if (fleet.full) state.houses = new Map();
    for (const row of fleet.houses) state.houses.set(row.house, row);
  });
  take("day", (day) => { state.day = day; });
  take("commands", (commands) => { state.commands = commands; });
  take("alerts", (alerts) => { state.alerts = alerts; });
  source.addEventListener("error", () => {
    lost();
    // The browser tries again by itself unless it was refused.
    if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
  });
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
    if (performance.now() - heardAt < SILENT_MS) return;
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
  if (source) open();
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
