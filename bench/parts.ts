import * as fs from "node:fs";
import { join } from "node:path";
import { do_not_optimize as keep, measure } from "mitata";
import { limits } from "../src/config/limits.ts";
import { RdbChecker } from "../src/rdb/checker.ts";
import { Crc64, crc64 } from "../src/rdb/crc64.ts";
import { BulkReader } from "../src/resp/bulk-reader.ts";
import { CommandReader } from "../src/resp/command-reader.ts";
import { encodeCommand } from "../src/resp/encode.ts";
import { FrameScanner } from "../src/resp/frame-scanner.ts";
import { GetackFinder } from "../src/resp/getack-finder.ts";
import { LineReader } from "../src/resp/line-reader.ts";
import { alignedBytes } from "../src/store/disk/direct-writer.ts";
import { realDisk } from "../src/store/disk/disk.ts";
import { createPayloadFile, openWriter } from "../src/store/disk/payload-file.ts";
import { median, scratchDirectory } from "./measure.ts";

/** The most that Bun passes in one `data` event. */
const CHUNK_BYTES = 512 * 1024;
const MIB = 1024 * 1024;
/** Larger than a core's caches, so that memory bandwidth counts, as on the way to the disk. */
const PAYLOAD_BYTES = 64 * MIB;

/** A part of the data path, and the least work that could take its place. */
interface Part {
  readonly name: string;
  readonly bytes: number;
  readonly floor: { readonly name: string; readonly act: () => void };
  readonly act: () => void;
}

const drop = (bytes: Uint8Array) => void keep(bytes);

function bulkParts(): Part[] {
  const chunks = chunksOf(randomBytes(PAYLOAD_BYTES));
  const delimiter = randomBytes(40);
  const target = new Uint8Array(CHUNK_BYTES);
  const read = (reader: BulkReader) => {
    for (const chunk of chunks) reader.push(chunk, drop);
  };
  const copy = () => {
    for (const chunk of chunks) target.set(chunk);
  };
  const search = () => {
    for (const chunk of chunks) keep(chunk.indexOf(delimiter));
  };
  return [
    {
      name: "BulkReader, $length",
      bytes: PAYLOAD_BYTES,
      floor: { name: "a copy", act: copy },
      act: () => read(new BulkReader({ kind: "length", bytes: PAYLOAD_BYTES })),
    },
    {
      name: "BulkReader, $EOF",
      bytes: PAYLOAD_BYTES,
      floor: { name: "indexOf", act: search },
      act: () => read(new BulkReader({ kind: "eof", delimiter })),
    },
  ];
}

function checksumParts(): Part[] {
  const payload = randomBytes(PAYLOAD_BYTES);
  const chunks = chunksOf(payload);
  const rdb = chunksOf(Buffer.concat([Buffer.from("REDIS0011\xfe", "latin1"), payload]));
  const readWords = () => {
    let words = 0;
    for (const chunk of chunks) {
      const view = new Int32Array(chunk.buffer, chunk.byteOffset, chunk.length >>> 2);
      for (let at = 0; at < view.length; at++) words ^= view[at]!;
    }
    keep(words);
  };
  const readBytes = (chunk: Uint8Array) => {
    let sum = 0;
    for (let at = 0; at < chunk.length; at++) sum ^= chunk[at]!;
    keep(sum);
  };
  const floor = { name: "reading every word", act: readWords };
  return [
    {
      name: "Crc64",
      bytes: PAYLOAD_BYTES,
      floor,
      act: () => {
        const crc = new Crc64();
        for (const chunk of chunks) crc.update(chunk);
        keep(crc.value);
      },
    },
    {
      name: "Crc64, segments of 1 KiB",
      bytes: chunks[0]!.length,
      floor: { name: "reading every byte", act: () => readBytes(chunks[0]!) },
      act: () => {
        for (let at = 0; at < chunks[0]!.length; at += 1024) {
          keep(crc64(chunks[0]!.subarray(at, at + 1024)));
        }
      },
    },
    {
      name: "RdbChecker",
      bytes: PAYLOAD_BYTES,
      floor,
      act: () => {
        const checker = new RdbChecker();
        for (const chunk of rdb) checker.push(chunk);
        keep(checker.header);
      },
    },
  ];
}

function streamParts(): Part[] {
  const stream = chunksOf(repeat(setCommand(64), PAYLOAD_BYTES));
  const getack = encodeCommand("REPLCONF", "GETACK", "*");
  const lines = repeat(Buffer.from("+FULLRESYNC 0123456789abcdef 123456789\r\n"), MIB);
  const commands = repeat(setCommand(64), MIB);
  const ack =
    "*5\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$9\r\n123456789\r\n$4\r\nFACK\r\n$9\r\n123456789\r\n";
  return [
    {
      name: "GetackFinder, the stream",
      bytes: PAYLOAD_BYTES,
      floor: {
        name: "indexOf",
        act: () => {
          for (const chunk of stream) keep(chunk.indexOf(getack));
        },
      },
      act: () => {
        const finder = new GetackFinder();
        for (const chunk of stream) keep(finder.find(chunk));
      },
    },
    {
      name: "LineReader",
      bytes: lines.length,
      floor: { name: "indexOf of line ends", act: () => eachLine(lines) },
      act: () => {
        const reader = new LineReader({ maxLineBytes: 1024 });
        reader.push(lines);
        for (let line = reader.next(); line !== undefined; line = reader.next()) keep(line);
      },
    },
    {
      name: "CommandReader, SETs of 64 bytes",
      bytes: commands.length,
      floor: { name: "indexOf of line ends", act: () => eachLine(commands) },
      act: () => {
        const reader = new CommandReader({
          maxLineBytes: 64 * 1024,
          maxArgs: 1024,
          maxArgBytes: MIB,
          maxCommandBytes: MIB,
        });
        reader.push(commands);
        for (let args = reader.next(); args !== undefined; args = reader.next()) keep(args);
      },
    },
    {
      name: "encodeCommand, an ACK",
      bytes: ack.length,
      floor: { name: "Buffer.from", act: () => void keep(Buffer.from(ack)) },
      act: () => void keep(encodeCommand("REPLCONF", "ACK", 123456789, "FACK", 123456789)),
    },
  ];
}

/** Scans a log in chunks of the size in which it is read, for values of several sizes. */
function logParts(): Part[] {
  return [64, 1024, 65_536].map((valueBytes) => {
    const log = repeat(setCommand(valueBytes), PAYLOAD_BYTES);
    const chunks = chunksOf(log);
    return {
      name: `FrameScanner, SETs of ${valueBytes} bytes`,
      bytes: log.length,
      floor: { name: "indexOf of line ends", act: () => chunks.forEach(eachLine) },
      act: () => {
        const scanner = new FrameScanner({ limits: limits.frame });
        for (const chunk of chunks) {
          scanner.push(chunk);
          while (scanner.next()) keep(scanner.end);
        }
      },
    };
  });
}

/** Measures the parts that every byte passes through, each next to its floor: the least possible work. */
export async function benchParts(quick: boolean): Promise<void> {
  const options = quick ? { min_cpu_time: 50e6 } : {};
  console.log("\n| part | MB/s | floor | MB/s | part/floor |\n|---|--:|---|--:|--:|");
  for (const part of [...bulkParts(), ...checksumParts(), ...streamParts(), ...logParts()]) {
    const rate = async (act: () => void) => {
      const { p50 } = await measure(act, options);
      return (part.bytes / p50) * 1000;
    };
    const floor = await rate(part.floor.act);
    row(part.name, await rate(part.act), part.floor.name, floor);
  }
  await benchWriters(quick);
}

function row(name: string, rate: number, floorName: string, floor: number): void {
  const share = rate > 10 * floor ? "> 1000 %" : `${((100 * rate) / floor).toFixed(0)} %`;
  console.log(`| ${name} | ${rate.toFixed(0)} | ${floorName} | ${floor.toFixed(0)} | ${share} |`);
}

/** Measures each writer until durable, alternating with a bare write: mitata can't repeat what a disk does. */
async function benchWriters(quick: boolean): Promise<void> {
  const bytes = quick ? 128 * MIB : 1024 * MIB;
  const rounds = quick ? 1 : 5;
  const chunk = randomBytes(CHUNK_BYTES);
  using scratch = scratchDirectory();
  const path = join(scratch.path, "file");
  const timed = async (act: () => Promise<void> | void) => {
    Bun.spawnSync(["sync"]);
    const beganMs = performance.now();
    await act();
    const ms = performance.now() - beganMs;
    fs.rmSync(path);
    return bytes / ms / 1000;
  };
  for (const io of ["buffered", "direct"] as const) {
    const rates: number[] = [];
    const floors: number[] = [];
    for (let round = 0; round < rounds; round++) {
      floors.push(await timed(() => bareWrite(path, io, bytes)));
      rates.push(await timed(() => throughWriter(path, io, chunk, bytes)));
    }
    const floor = io === "direct" ? "write, O_DIRECT, fdatasync" : "write and fdatasync";
    row(`writer, ${io}, until durable`, median(rates), floor, median(floors));
  }
}

async function throughWriter(
  path: string,
  io: "buffered" | "direct",
  chunk: Uint8Array,
  bytes: number,
): Promise<void> {
  let room = Promise.withResolvers<void>();
  const file = await createPayloadFile(realDisk, path, io);
  const writer = openWriter(file, bytes, 16 * MIB, {
    written: () => room.resolve(),
    failed: (cause) => room.reject(cause),
  });
  // A view of a larger buffer, as in real use.
  const piece = chunk.subarray(1);
  for (let at = 0; at < bytes; at += piece.length) {
    writer.write(piece);
    while (writer.congested) {
      await room.promise;
      room = Promise.withResolvers();
    }
  }
  await writer.finish();
}

/** Writes sequentially, in blocks of the writer's size. */
function bareWrite(path: string, io: "buffered" | "direct", bytes: number): void {
  const block = alignedBytes(io === "direct" ? 4 * MIB : CHUNK_BYTES);
  const fd = io === "direct" ? realDisk.createDirect(path) : realDisk.create(path);
  for (let at = 0; at < bytes; at += block.length) fs.writeSync(fd, block);
  fs.fdatasyncSync(fd);
  fs.closeSync(fd);
}

function setCommand(valueBytes: number): Uint8Array {
  return encodeCommand("SET", "key:000000000001", "x".repeat(valueBytes));
}

function eachLine(bytes: Buffer): void {
  for (let at = bytes.indexOf(10); at !== -1; at = bytes.indexOf(10, at + 1)) keep(at);
}

function randomBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  // getRandomValues takes at most 64 KiB at once.
  for (let at = 0; at < length; at += 65_536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  }
  return bytes;
}

/** Repeats `bytes` as often as it fits into `totalBytes`. */
function repeat(bytes: Uint8Array, totalBytes: number): Buffer {
  return Buffer.alloc(totalBytes - (totalBytes % bytes.length), bytes);
}

function chunksOf(bytes: Buffer): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    chunks.push(bytes.subarray(at, at + CHUNK_BYTES));
  }
  return chunks;
}
