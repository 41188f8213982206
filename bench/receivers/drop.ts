import type { Socket } from "bun";
import { BulkReader, parseBulkHeader } from "../../src/resp/bulk-reader.ts";
import { LineReader } from "../../src/resp/line-reader.ts";

/** `bun bench/receivers/drop.ts PORT [LINKS [tls]]`: requests a snapshot over each link, and drops the bytes. */
const ASKS = ["PING", "REPLCONF capa eof", "REPLCONF rdb-only 1", "SYNC"];
const [port, links] = [Number(process.argv[2]), Number(process.argv[3] ?? 1)];
const isTls = process.argv[4] === "tls";
let underWay = links;

class Link {
  readonly #lines = new LineReader({ maxLineBytes: 65_536 });
  #asked = 0;
  #payload: BulkReader | undefined;
  #isWhole = false;

  take(socket: Socket, bytes: Uint8Array): void {
    if (this.#payload !== undefined) return this.#drop(this.#payload, bytes);
    this.#lines.push(bytes);
    for (let line = this.#lines.next(); line !== undefined; line = this.#lines.next()) {
      if (line.length === 0) continue; // a keepalive
      const next = ASKS[++this.#asked];
      if (next !== undefined) {
        socket.write(`${next}\r\n`);
        continue;
      }
      this.#payload = new BulkReader(parseBulkHeader(line));
      return this.#drop(this.#payload, this.#lines.rest());
    }
  }

  #drop(reader: BulkReader, bytes: Uint8Array): void {
    if (this.#isWhole || reader.push(bytes, () => undefined) === undefined) return;
    this.#isWhole = true;
    if (--underWay === 0) process.exit(0);
  }

  /** After an rdb-only snapshot, the primary closes the link. */
  closed(): void {
    if (!this.#isWhole) process.exit(1);
  }
}

for (let n = 0; n < links; n++) {
  const link = new Link();
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    ...(isTls && { tls: { rejectUnauthorized: false } }),
    socket: {
      binaryType: "uint8array",
      open: (socket) => {
        if (!isTls) socket.write(`${ASKS[0]}\r\n`);
      },
      handshake: (socket) => void socket.write(`${ASKS[0]}\r\n`),
      data: (socket, bytes) => link.take(socket, bytes),
      close: () => link.closed(),
    },
  });
}
