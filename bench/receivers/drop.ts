import type { Socket } from "bun";
import { BulkReader, parseBulkHeader } from "../../src/resp/bulk-reader.ts";
import { LineReader } from "../../src/resp/line-reader.ts";

/** `bun bench/receivers/drop.ts PORT`: asks for a snapshot, drops its bytes, says how long it took. */
const ASKS = ["PING", "REPLCONF capa eof", "REPLCONF rdb-only 1", "SYNC"];
const lines = new LineReader({ maxLineBytes: 65_536 });
let asked = 0;
let payload: BulkReader | undefined;

function take(socket: Socket, bytes: Uint8Array): void {
  if (payload !== undefined) return drop(payload, bytes);
  lines.push(bytes);
  for (let line = lines.next(); line !== undefined; line = lines.next()) {
    if (line.length === 0) continue; // a keepalive
    const next = ASKS[++asked];
    if (next !== undefined) {
      socket.write(`${next}\r\n`);
      continue;
    }
    payload = new BulkReader(parseBulkHeader(line));
    return drop(payload, lines.rest());
  }
}

function drop(reader: BulkReader, bytes: Uint8Array): void {
  if (reader.push(bytes, () => undefined) !== undefined) process.exit(0);
}

await Bun.connect({
  hostname: "127.0.0.1",
  port: Number(process.argv[2]),
  socket: {
    binaryType: "uint8array",
    open: (socket) => {
      socket.write(`${ASKS[0]}\r\n`);
    },
    data: take,
    close: () => process.exit(1),
  },
});
