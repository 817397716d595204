// Numbers and times as people read them; times are those of the site, whatever this machine's zone is.

let zone = "UTC";
const made = new Map();

export function setZone(name) {
  zone = name;
  made.clear();
}

function format(key, options) {
  if (!made.has(key)) made.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options }));
  return made.get(key);
}

export const hourMinute = (ms) => format("hm", { hour: "2-digit", minute: "2-digit" }).format(ms);
export const clockTime = (ms) => format("hms", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);
export const dayName = (ms) => format("d", { weekday: "short", day: "numeric" }).format(ms);
export const dayTime = (ms) => `${dayName(ms)}, ${hourMinute(ms)}`;
export const zoneName = (ms) =>
  format("z", { timeZoneName: "short" }).formatToParts(ms).find((part) => part.type === "timeZoneName").value;

/** The parts of a moment on the site's wall clocks. */
export function localParts(ms) {
  const parts = format("all", {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  }).formatToParts(ms);
  return Object.fromEntries(parts.map((part) => [part.type, part.value]));
}

/** As an input of type datetime-local has it. */
export function localInput(ms) {
  const p = localParts(ms);
  return `${p.year}-${p.month}-${p.day}T${p.hour}:${p.minute}`;
}

/** How far the site's wall clocks are ahead of UTC [ms]. */
export function offset(ms) {
  const p = localParts(ms);
  return Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second) - Math.floor(ms / 1000) * 1000;
}

/** The moment that the site's wall clocks show as `text`, of a datetime-local input. */
export function fromLocal(text) {
  const wall = Date.parse(`${text}Z`);
  const guess = wall - offset(wall);
  return wall - offset(guess);
}

export const kw = (value) => (value === null || value === undefined ? "–" : Math.abs(value).toFixed(Math.abs(value) < 10 ? 2 : 1));

export const signedKw = (value) => {
  if (value === null || value === undefined) return "–";
  const text = kw(value);
  return Number(text) === 0 ? text : `${value > 0 ? "+" : "−"}${text}`;
};

export const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(value)} %`);

export function money(value, currency, most = 2) {
  if (value === null || value === undefined || !currency) return "–";
  const shown = Math.abs(value) < 10 ** -most / 2 ? 0 : value;
  try {
    return new Intl.NumberFormat("en", {
      style: "currency", currency, currencyDisplay: "narrowSymbol",
      minimumFractionDigits: 2, maximumFractionDigits: most,
    }).format(shown).replace("-", "−");
  } catch {
    return `${shown.toFixed(most)} ${currency}`;
  }
}

/** A price, with the digits that tell one from the next. */
export const price = (value, currency) => money(value, currency, value !== null && Math.abs(value) < 10 ? 3 : 2);

export function age(seconds) {
  if (seconds < 1.5) return "now";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}
