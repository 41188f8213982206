import { parseArgs } from "node:util";
import type { Socket } from "bun";
import { RdbWriter } from "../src/demo/rdb.ts";
import { Crc64 } from "../src/rdb/crc64.ts";
import { commandParser } from "./command-parser.ts";

/** Values are incompressible, and large enough that loading does not dominate a real replica's time. */
const VALUE_BYTES = 64 * 1024;
const RECORDS_A_BLOCK = 64;
const KEY_DIGITS = 12;
const REPLID = "c".repeat(40);
const MARK = "e".repeat(40);

/** A snapshot of any size in constant memory: an RDB of string keys that every server can load. */
class Snapshot {
  readonly bytes: number;
  readonly #head: Uint8Array;
  readonly #tail: Uint8Array;
  readonly #block: Buffer;
  readonly #keyAt: number;
  readonly #recordBytes: number;
  readonly #blocks: number;

  constructor(wantedBytes: number) {
    const value = Buffer.alloc(VALUE_BYTES);
    const records = Array.from({ length: RECORDS_A_BLOCK }, () => {
      for (let at = 0; at < value.length; at += 65_536)
        crypto.getRandomValues(value.subarray(at, at + 65_536));
      const record = new RdbWriter();
      record.byte(0); // a string
      record.text(`key:${"0".repeat(KEY_DIGITS)}`);
      record.string(value);
      return Buffer.from(record.written);
    });
    this.#block = Buffer.concat(records);
    this.#recordBytes = records[0]!.length;
    this.#keyAt = this.#block.indexOf("key:") + 4;
    this.#blocks = Math.max(1, Math.floor(wantedBytes / this.#block.length));
    const head = new RdbWriter();
    head.ascii("REDIS0010");
    head.aux("redis-ver", "7.0.15");
    head.database(0, this.#blocks * RECORDS_A_BLOCK, 0);
    this.#head = Buffer.from(head.written);
    const crc = new Crc64();
    crc.update(this.#head);
    for (let n = 0; n < this.#blocks; n++) crc.update(this.#blockOf(n));
    const end = Buffer.from([0xff]);
    crc.update(end);
    const checksum = Buffer.alloc(8);
    checksum.writeBigUInt64LE(crc.value);
    this.#tail = Buffer.concat([end, checksum]);
    this.bytes = this.#head.length + this.#blocks * this.#block.length + this.#tail.length;
  }

  get pieces(): number {
    return this.#blocks + 2;
  }

  /** Piece `n` of the snapshot, valid until the next one is requested; undefined after the last. */
  piece(n: number): Uint8Array | undefined {
    if (n === 0) return this.#head;
    if (n <= this.#blocks) return this.#blockOf(n - 1);
    return n === this.#blocks + 1 ? this.#tail : undefined;
  }

  #blockOf(n: number): Uint8Array {
    for (let record = 0; record < RECORDS_A_BLOCK; record++) {
      const name = String(n * RECORDS_A_BLOCK + record).padStart(KEY_DIGITS, "0");
      this.#block.write(name, record * this.#recordBytes + this.#keyAt, "latin1");
    }
    return this.#block;
  }
}

interface Peer {
  readonly parse: ReturnType<typeof commandParser>;
  /** The next piece, and what the kernel has not accepted of the previous one. */
  next: number;
  rest: Uint8Array | undefined;
}

/** Serves the snapshot to one replica at a time, since they would share the block. */
function serve(snapshot: Snapshot, form: "length" | "eof"): number {
  // In the EOF form, the mark follows the last piece.
  const mark = form === "eof" ? Buffer.from(MARK) : undefined;
  const pieceOf = (n: number) => snapshot.piece(n) ?? (n === snapshot.pieces ? mark : undefined);
  const pump = (socket: Socket<Peer>) => {
    const peer = socket.data;
    for (;;) {
      peer.rest ??= pieceOf(peer.next++);
      if (peer.rest === undefined) return;
      const taken = socket.write(peer.rest);
      if (taken < 0) return;
      if (taken < peer.rest.length) {
        peer.rest = peer.rest.subarray(taken);
        return;
      }
      peer.rest = undefined;
    }
  };
  const answer = (socket: Socket<Peer>, words: string[]) => {
    const [command, what] = words.map((word) => word.toUpperCase());
    if (command === "PING") socket.write("+PONG\r\n");
    else if (command === "REPLCONF" && what !== "ACK") socket.write("+OK\r\n");
    else if (command === "PSYNC" || command === "SYNC") {
      if (command === "PSYNC") socket.write(`+FULLRESYNC ${REPLID} 0\r\n`);
      socket.write(form === "length" ? `$${snapshot.bytes}\r\n` : `$EOF:${MARK}\r\n`);
      socket.data.next = 0;
      pump(socket);
    } else if (command === "INFO") {
      // As a primary whose login may not ask: without an answer, the replica would wait for one.
      socket.write("-NOPERM this user has no permissions to run the 'info' command\r\n");
    }
  };
  const listener = Bun.listen<Peer>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      binaryType: "uint8array",
      open: (socket) => {
        socket.data = { parse: commandParser(), next: Infinity, rest: undefined };
      },
      data: (socket, bytes) => {
        for (const words of socket.data.parse(bytes)) answer(socket, words);
      },
      drain: pump,
    },
  });
  return listener.port;
}

/** `bun bench/sender.ts --bytes N --form length|eof`: prints `<port> <bytes>` once it listens. */
const { values } = parseArgs({
  options: { bytes: { type: "string" }, form: { type: "string" } },
});
const snapshot = new Snapshot(Number(values.bytes));
console.log(serve(snapshot, values.form === "eof" ? "eof" : "length"), snapshot.bytes);
