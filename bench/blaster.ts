import { parseArgs } from "node:util";
import type { Socket } from "bun";
import { crc64 } from "../src/rdb/crc64.ts";
import { encodeCommand } from "../src/resp/encode.ts";
import { commandParser } from "./command-parser.ts";

const REPLID = "b".repeat(40);
export const MEGABYTE = 1_000_000;
const GETACK = encodeCommand("REPLCONF", "GETACK", "*");
const GETACK_EVERY_MS = 100;
const PACE_MS = 5;
/** One SET of 64 bytes. */
export const SET = encodeCommand("SET", "key:000001", "v".repeat(27));
export const SET_BYTES = SET.length;

/** An RDB without keys. */
export function emptyRdb(): Uint8Array {
  const body = Buffer.from("REDIS0010\xff", "latin1");
  const checksum = Buffer.alloc(8);
  checksum.writeBigUInt64LE(crc64(body));
  return Buffer.concat([body, checksum]);
}

/** About 4 MB of 64-byte SETs. */
export function setBlock(): Uint8Array {
  return Buffer.concat(Array.from({ length: Math.floor((4 * MEGABYTE) / SET.length) }, () => SET));
}

export interface Blast {
  readonly port: number;
  readonly sentBytes: () => number;
  /** Milliseconds from the last byte of each GETACK to the ACK that covers it. */
  readonly ackMs: number[];
  /** Resolves with the seconds from the first byte to the ACK of the last one. */
  readonly done: Promise<number>;
  /** Resolves when the stream begins. */
  readonly online: Promise<void>;
  stop(): void;
}

/**
 * A primary that sends its replica `totalBytes` of stream, as fast as the replica accepts it or at a fixed
 * rate. It measures by the written offset in each ACK.
 */
export function blast(totalBytes: number, bytesPerSecond = Infinity): Blast {
  const block = setBlock();
  const ackMs: number[] = [];
  const waiting: { offset: number; atMs: number }[] = [];
  const done = Promise.withResolvers<number>();
  const began = Promise.withResolvers<void>();
  let sent = 0;
  let beganMs = 0;
  let lastGetackMs = 0;
  let piece: Uint8Array | undefined;
  let online: Socket | undefined;
  const allowed = () =>
    bytesPerSecond === Infinity
      ? totalBytes
      : Math.min(totalBytes, ((performance.now() - beganMs) / 1000) * bytesPerSecond);
  const next = (mayBeSent: number): Uint8Array | undefined => {
    const nowMs = performance.now();
    const isLast = sent >= totalBytes;
    if (
      isLast ? waiting.length === 0 && lastGetackMs !== -1 : nowMs - lastGetackMs >= GETACK_EVERY_MS
    ) {
      lastGetackMs = isLast ? -1 : nowMs;
      // A server answers with the offset before the GETACK itself.
      waiting.push({ offset: sent, atMs: nowMs });
      return GETACK;
    }
    const room = mayBeSent - sent;
    if (room <= 0) return undefined;
    // Whole commands only; the last one may exceed `totalBytes`.
    return block.subarray(0, Math.min(block.length, Math.ceil(room / SET.length) * SET.length));
  };
  const pump = () => {
    // Once for all that it sends: a loop that sends a little more at each look would never end, and hear no ACK.
    const mayBeSent = allowed();
    while (online !== undefined) {
      piece ??= next(mayBeSent);
      if (piece === undefined) return;
      const taken = online.write(piece);
      if (taken < 0) return;
      sent += taken;
      if (taken < piece.length) {
        piece = piece.subarray(taken);
        return;
      }
      piece = undefined;
    }
  };
  const acknowledged = (socket: Socket, offset: number) => {
    const nowMs = performance.now();
    while (waiting[0] !== undefined && waiting[0].offset <= offset) {
      ackMs.push(nowMs - waiting.shift()!.atMs);
    }
    if (online !== undefined && offset >= totalBytes) done.resolve((nowMs - beganMs) / 1000);
    if (online === undefined) {
      online = socket;
      began.resolve();
      beganMs = nowMs;
    }
    pump();
  };
  const answer = (socket: Socket, words: string[]) => {
    const [command, what] = words.map((word) => word.toUpperCase());
    if (command === "PSYNC") {
      const rdb = emptyRdb();
      socket.write(`+FULLRESYNC ${REPLID} 0\r\n$${rdb.length}\r\n`);
      socket.write(rdb);
    } else if (what === "ACK") {
      acknowledged(socket, Number(words[2]));
    } else {
      socket.write(command === "PING" ? "+PONG\r\n" : "+OK\r\n");
    }
  };
  const parse = commandParser();
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      binaryType: "uint8array",
      data: (socket, bytes) => {
        for (const words of parse(bytes)) answer(socket, words);
      },
      drain: pump,
    },
  });
  const pace = bytesPerSecond === Infinity ? undefined : setInterval(pump, PACE_MS);
  return {
    port: listener.port,
    sentBytes: () => sent,
    ackMs,
    done: done.promise,
    online: began.promise,
    stop: () => {
      clearInterval(pace);
      listener.stop(true);
    },
  };
}

/** `bun bench/blaster.ts --bytes N [--rate N]`: prints its port, and at the end its measurements as JSON. */
if (import.meta.main) {
  const { values } = parseArgs({
    options: { bytes: { type: "string" }, rate: { type: "string", default: "Infinity" } },
  });
  const primary = blast(Number(values.bytes), Number(values.rate));
  console.log(primary.port);
  await primary.online;
  console.log("online");
  const seconds = await primary.done;
  const acks = primary.ackMs.toSorted((a, b) => a - b);
  const lag = { medianMs: acks[acks.length >> 1], mostMs: acks.at(-1) };
  console.log(JSON.stringify({ seconds, bytes: primary.sentBytes(), ...lag }));
  await Bun.sleep(60_000);
}
