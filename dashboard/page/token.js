// The token, kept in this page's memory alone, and the form that asks for it.

import { el } from "./dom.js";

let token = "";

export const hasToken = () => token !== "";
export const forgetToken = () => { token = ""; };

/** What a request shows. */
export const bearer = () => (token ? { Authorization: `Bearer ${token}` } : {});

/** Asks for the token; `done` is called once it is there. */
export function tokenForm(done) {
  const field = el("input", { type: "password", id: "token", autocomplete: "off", required: true });
  return el("form", {
    class: "row",
    onsubmit: (event) => {
      event.preventDefault();
      token = field.value;
      field.value = "";
      done();
    },
  }, el("label", { for: "token" }, "Token"), field, el("button", {}, "Unlock"));
}

/** What the server tells at a path, as JSON. */
export async function fetched(path) {
  const answer = await fetch(path, { headers: bearer() });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.detail);
  return told;
}
