// Building the page: what comes from the bus is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const el = (tag, attributes = {}, ...children) =>
  build(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS(SVG, tag), attributes, children);

/** Change a text only where it differs: a screen reader and the browser's layout are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Make a table's rows those of `items`: a row is kept as long as its key is there. */
export function keyed(body, items, keyOf, make, update) {
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    let row = known.get(key);
    if (!row) {
      row = make(item);
      row.dataset.key = key;
    }
    known.delete(key);
    update(row, item);
    if (body.children[index] !== row) body.insertBefore(row, body.children[index] ?? null);
  });
  for (const row of known.values()) row.remove();
}

/** A table in a frame of its own that scrolls, by keyboard too. */
export function table(caption, headings, { seen = true } = {}) {
  const body = el("tbody");
  const head = el("tr", {}, ...headings.map(([text, cls]) => el("th", { scope: "col", class: cls }, text)));
  const whole = el("table", {}, el("caption", { class: seen ? null : "unseen" }, caption), el("thead", {}, head), body);
  return { frame: el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole), body };
}

const said = document.getElementById("said");

/** Tell a screen reader. */
export const say = (text) => setText(said, text);
