// Reads an AsyncAPI document from standard input; prints each diagnostic, then how many channels it has.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { diagnostics, document } = await new Parser().parse(readFileSync(0, "utf8"));
for (const each of diagnostics) {
  console.log(`${each.path.join(".")}: ${each.message}`);
}
console.log(`channels ${document ? document.allChannels().length : 0}`);
