import { createInterface } from "node:readline";
import type { Socket } from "bun";
import { encodeCommand } from "../src/resp/encode.ts";
import { emptyRdb, SET, SET_BYTES } from "./blaster.ts";
import { commandParser } from "./command-parser.ts";

const REPLID = "d".repeat(40);
const GETACK = encodeCommand("REPLCONF", "GETACK", "*");
const PING = encodeCommand("PING");
const GETACK_EVERY_MS = 100;
/** A real primary's repl-ping-replica-period. */
const PING_EVERY_MS = 10_000;
const TICK_MS = 1;

/** One replica that is fed. */
interface Link {
  readonly socket: Socket;
  /** What it announced by REPLCONF listening-port. */
  port: string;
  isOnline: boolean;
  unsent: Uint8Array[];
  readonly waiting: { readonly offset: number; readonly atMs: number }[];
  ackMs: number[];
}

/**
 * A primary that sends every replica the same stream at a steady rate, each tick's commands in one write, as a server
 * does that has many clients; a PING every ten seconds at rest. It measures from each GETACK to the ACK that covers it.
 *
 * Reads lines of `rate seconds awaited` on standard input; with `awaited`, a GETACK comes every 100 ms. Prints its port, then `online N` with each replica that follows, and
 * after each phase its measurements as JSON, by the port that a replica announced.
 */
class Pacer {
  readonly #links = new Map<Socket, Link>();
  #offset = 0;

  listen(): number {
    const parsers = new Map<Socket, ReturnType<typeof commandParser>>();
    return Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        binaryType: "uint8array",
        open: (socket) => {
          socket.setNoDelay(true);
          parsers.set(socket, commandParser());
          const link = { socket, port: "", isOnline: false, unsent: [], waiting: [], ackMs: [] };
          this.#links.set(socket, link);
        },
        data: (socket, bytes) => {
          for (const words of parsers.get(socket)!(bytes))
            this.#answer(this.#links.get(socket)!, words);
        },
        drain: (socket) => flush(this.#links.get(socket)!),
        close: (socket) => void this.#links.delete(socket),
      },
    }).port;
  }

  #answer(link: Link, words: string[]): void {
    const [command, what] = words.map((word) => word.toUpperCase());
    if (command === "PSYNC") {
      const rdb = emptyRdb();
      write(link, Buffer.from(`+FULLRESYNC ${REPLID} ${this.#offset}\r\n$${rdb.length}\r\n`));
      write(link, rdb);
    } else if (what === "ACK") {
      this.#acknowledged(link, Number(words[2]));
    } else {
      if (what === "LISTENING-PORT") link.port = words[2] ?? "";
      write(link, Buffer.from(command === "PING" ? "+PONG\r\n" : "+OK\r\n"));
    }
  }

  #acknowledged(link: Link, offset: number): void {
    if (!link.isOnline) {
      link.isOnline = true;
      console.log(`online ${this.#online().length}`);
    }
    const nowMs = performance.now();
    while (link.waiting[0] !== undefined && link.waiting[0].offset <= offset) {
      link.ackMs.push(nowMs - link.waiting.shift()!.atMs);
    }
  }

  #online(): Link[] {
    return [...this.#links.values()].filter(({ isOnline }) => isOnline);
  }

  #send(bytes: Uint8Array): void {
    this.#offset += bytes.length;
    for (const link of this.#online()) write(link, bytes);
  }

  /** Sends `rate` SETs a second for so many seconds; asks for ACKs meanwhile where they are awaited, as by WAIT. */
  async phase(rate: number, seconds: number, isAwaited: boolean): Promise<void> {
    for (const link of this.#online()) link.ackMs = [];
    const beganMs = performance.now();
    let sent = 0;
    let askedMs = beganMs;
    let pingedMs = beganMs;
    for (let nowMs = beganMs; nowMs < beganMs + seconds * 1000; nowMs = performance.now()) {
      const due = Math.floor(((nowMs - beganMs) / 1000) * rate) - sent;
      if (due > 0)
        this.#send(due === 1 ? SET : Buffer.concat(Array.from({ length: due }, () => SET)));
      sent += due;
      if (isAwaited && nowMs - askedMs >= GETACK_EVERY_MS) {
        askedMs = nowMs;
        // WAIT waits for the write before it: a server answers GETACK with the offset before its own bytes.
        for (const link of this.#online()) link.waiting.push({ offset: this.#offset, atMs: nowMs });
        this.#send(GETACK);
      }
      if (nowMs - pingedMs >= PING_EVERY_MS) {
        pingedMs = nowMs;
        this.#send(PING);
      }
      await Bun.sleep(rate === 0 ? 100 : Math.max(TICK_MS, Math.floor(1000 / rate)));
    }
    const acks = Object.fromEntries(this.#online().map(({ port, ackMs }) => [port, ackMs]));
    console.log(JSON.stringify({ rate, bytes: sent * SET_BYTES, acks }));
  }
}

function write(link: Link, bytes: Uint8Array): void {
  link.unsent.push(bytes);
  if (link.unsent.length === 1) flush(link);
}

function flush(link: Link): void {
  for (let head = link.unsent[0]; head !== undefined; head = link.unsent[0]) {
    const taken = link.socket.write(head);
    if (taken < 0) return;
    if (taken < head.length) {
      link.unsent[0] = head.subarray(taken);
      return;
    }
    link.unsent.shift();
  }
}

const pacer = new Pacer();
console.log(pacer.listen());
for await (const line of createInterface({ input: process.stdin })) {
  const [rate, seconds, awaited] = line.split(" ");
  await pacer.phase(Number(rate), Number(seconds), awaited === "awaited");
}
