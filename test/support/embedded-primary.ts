// Runs an embedded primary in its own process: `bun embedded-primary.ts KEYS VALUE_BYTES length|eof` prints its URL.
import { EmbeddedPrimary } from "../../src/demo/primary.ts";

const [keys, valueBytes, form] = process.argv.slice(2);
const primary = await EmbeddedPrimary.start({
  seed: 1,
  keys: Number(keys),
  valueBytes: Number(valueBytes),
  payloadForm: form === "eof" ? "eof" : "length",
  backlogBytes: 16 * 1024 * 1024,
  writesPerSecond: 100,
});
console.log(primary.url);
