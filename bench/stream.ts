import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";
import { loadSettings } from "../src/load-settings.ts";
import { parsePrimaryUrl } from "../src/primary-url.ts";
import { crc64 } from "../src/rdb/crc64.ts";
import { CommandReader } from "../src/resp/command-reader.ts";
import { encodeCommand } from "../src/resp/encode.ts";
import { realClock } from "../src/service/clock.ts";
import { assemble } from "../src/service/follow.ts";
import { realDisk } from "../src/store/disk.ts";

const REPLID = "b".repeat(40);
const MEGABYTE = 1_000_000;
const GETACK = encodeCommand("REPLCONF", "GETACK", "*");
const GETACK_EVERY_MS = 100;

/** An RDB without a key. */
function emptyRdb(): Uint8Array {
  const body = Buffer.from("REDIS0010\xff", "latin1");
  const checksum = Buffer.alloc(8);
  checksum.writeBigUInt64LE(crc64(body));
  return Buffer.concat([body, checksum]);
}

/** 64-byte SETs, some 4 MB of them. */
function setBlock(): Uint8Array {
  const one = encodeCommand("SET", "key:000001", "v".repeat(20));
  return Buffer.concat(Array.from({ length: Math.floor((4 * MEGABYTE) / one.length) }, () => one));
}

interface Blast {
  readonly url: string;
  readonly sentBytes: () => number;
  /** Milliseconds from each GETACK's last byte until an ACK that covers it. */
  readonly ackMs: number[];
  readonly acked: () => { ack: number; fack: number };
  stop(): void;
}

/** A primary in this process that sends its replica `totalBytes` of stream as fast as it is taken. */
function blast(totalBytes: number): Blast {
  const block = setBlock();
  const ackMs: number[] = [];
  const waiting: { offset: number; atMs: number }[] = [];
  const last = { ack: 0, fack: 0 };
  let sent = 0;
  let lastGetackMs = 0;
  let piece: Uint8Array = block;
  let online = false;
  const pump = (socket: Socket) => {
    while (online && (sent < totalBytes || piece.length < block.length)) {
      const taken = socket.write(piece);
      if (taken < 0) return;
      sent += taken;
      if (taken < piece.length) {
        piece = piece.subarray(taken);
        return;
      }
      piece = block;
      const nowMs = performance.now();
      if (nowMs - lastGetackMs < GETACK_EVERY_MS) continue;
      lastGetackMs = nowMs;
      waiting.push({ offset: sent + GETACK.length, atMs: nowMs });
      piece = Buffer.concat([GETACK, block]);
    }
  };
  const answer = (socket: Socket, words: string[]) => {
    if (words[0] === "PSYNC") {
      const rdb = emptyRdb();
      socket.write(`+FULLRESYNC ${REPLID} 0\r\n$${rdb.length}\r\n`);
      socket.write(rdb);
    } else if (words[1] === "ACK") {
      last.ack = Number(words[2]);
      last.fack = Number(words[4] ?? 0);
      const nowMs = performance.now();
      while (waiting[0] !== undefined && waiting[0].offset <= last.ack) {
        ackMs.push(nowMs - waiting.shift()!.atMs);
      }
      if (!online) {
        online = true;
        pump(socket);
      }
    } else {
      socket.write(words[0] === "PING" ? "+PONG\r\n" : "+OK\r\n");
    }
  };
  const limits = { maxLineBytes: 65536, maxArgs: 64, maxArgBytes: 65536, maxCommandBytes: 262144 };
  const reader = new CommandReader(limits);
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      binaryType: "uint8array",
      data: (socket, bytes) => {
        reader.push(bytes);
        for (let words = reader.next(); words !== undefined; words = reader.next()) {
          answer(
            socket,
            words.map((word) => Buffer.from(word).toString()),
          );
        }
      },
      drain: pump,
    },
  });
  return {
    url: `redis://127.0.0.1:${listener.port}`,
    sentBytes: () => sent,
    ackMs,
    acked: () => last,
    stop: () => listener.stop(true),
  };
}

/** The stream at full speed from a primary in this process, until it is durable; and its floor, a bare write. */
export async function benchStream(totalBytes: number): Promise<void> {
  const dir = fs.mkdtempSync(join(tmpdir(), "replica-bench-"));
  try {
    const primary = blast(totalBytes);
    const settings = loadSettings({
      flags: new Map([
        ["dir", join(dir, "data")],
        ["port", "0"],
      ]),
    });
    const stop = new AbortController();
    const target = parsePrimaryUrl(primary.url);
    const { replica, run, close } = assemble(target, realDisk, realClock, settings, "bench");
    const running = run(stop.signal);
    const beganMs = performance.now();
    const cpu = process.cpuUsage();
    while ((replica.log?.durableOffset ?? 0) < totalBytes) await Bun.sleep(5);
    const seconds = (performance.now() - beganMs) / 1000;
    const { user, system } = process.cpuUsage(cpu);
    const bytes = primary.sentBytes();
    stop.abort();
    await running;
    close();
    primary.stop();
    const acks = primary.ackMs.toSorted((a, b) => a - b);
    const floorSeconds = bareWrite(join(dir, "floor"), totalBytes);
    const rate = (perSeconds: number) => `${(bytes / perSeconds / MEGABYTE).toFixed(0)} MB/s`;
    console.log(`stream: ${(bytes / MEGABYTE).toFixed(0)} MB of 64-byte SETs, --fsync everysec`);
    console.log(
      `  until durable        ${seconds.toFixed(2)} s, ${rate(seconds)}, sender and replica in one process, ${((user + system) / 1e6).toFixed(2)} CPU s`,
    );
    console.log(`  floor: write + sync  ${floorSeconds.toFixed(2)} s, ${rate(floorSeconds)}`);
    console.log(
      `  GETACK answered in   ${acks[acks.length >> 1]?.toFixed(1)} ms median, ${acks.at(-1)?.toFixed(1)} ms at most, of ${acks.length}`,
    );
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

function bareWrite(path: string, totalBytes: number): number {
  const block = setBlock();
  const beganMs = performance.now();
  const fd = fs.openSync(path, "wx");
  for (let at = 0; at < totalBytes; at += block.length) fs.writeSync(fd, block);
  fs.fdatasyncSync(fd);
  fs.closeSync(fd);
  return (performance.now() - beganMs) / 1000;
}
