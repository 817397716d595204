// Reads an AsyncAPI document from standard input; prints what the official parser finds wrong with it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The parser stands in the folder that is named, not beside this file.
const { Parser } = createRequire(`${process.argv[2]}/`)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const names = ["error", "warning", "info", "hint"];
const lines = diagnostics.map((d) => `${names[d.severity]} ${d.code} ${d.path.join(".")}: ${d.message}`);
console.log(JSON.stringify({ isDocument: Boolean(document), lines }));
