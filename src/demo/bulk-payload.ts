import { randomHex40 } from "./random.ts";
import type { DemoSnapshot } from "./rdb.ts";

/** How the bulk payload is framed: `$<length>`, or `$EOF:<mark>` with the mark repeated at its end. */
export type PayloadForm = "length" | "eof";

const ENCODER = new TextEncoder();

/** The snapshot as a bulk payload. A chunk is valid until the next one is requested. */
export function* bulkPayload(snapshot: DemoSnapshot, form: PayloadForm): Generator<Uint8Array> {
  if (form === "length") {
    yield ENCODER.encode(`$${snapshot.lengthBytes}\r\n`);
    yield* snapshot.chunks();
    return;
  }
  const mark = randomHex40();
  yield ENCODER.encode(`$EOF:${mark}\r\n`);
  yield* snapshot.chunks();
  yield ENCODER.encode(mark);
}
