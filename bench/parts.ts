import { bench, do_not_optimize as keep, run, summary } from "mitata";
import { RdbChecker } from "../src/rdb/checker.ts";
import { Crc64 } from "../src/rdb/crc64.ts";
import { BulkReader } from "../src/resp/bulk-reader.ts";
import { CommandReader } from "../src/resp/command-reader.ts";
import { encodeCommand } from "../src/resp/encode.ts";
import { GetackFinder } from "../src/resp/getack-finder.ts";
import { LineReader } from "../src/resp/line-reader.ts";

/** What Bun hands over at most in one `data` event. */
const CHUNK_BYTES = 512 * 1024;
const MIB = 1024 * 1024;
/** Larger than a core's own caches, so that memory counts, as it does on the way to the disk. */
const PAYLOAD_BYTES = 64 * MIB;

/** The parts that every byte passes, each with its floor beside it: the least that could be done. */
export async function benchParts(): Promise<void> {
  const payload = randomBytes(PAYLOAD_BYTES);
  const chunks = chunksOf(payload);
  const stream = chunksOf(repeat(setCommand(), PAYLOAD_BYTES));
  const mark = randomBytes(40);
  const target = new Uint8Array(CHUNK_BYTES);
  const sink = (bytes: Uint8Array) => void keep(bytes);

  summary(() => {
    bench("bulk, 64 MiB: copying every chunk", () => {
      for (const chunk of chunks) target.set(chunk);
    });
    bench("bulk, 64 MiB: bare Buffer.indexOf", () => {
      for (const chunk of chunks) keep(chunk.indexOf(mark));
    });
    bench("bulk, 64 MiB: BulkReader, by length", () => {
      const reader = new BulkReader({ kind: "length", bytes: PAYLOAD_BYTES });
      for (const chunk of chunks) reader.push(chunk, sink);
    });
    bench("bulk, 64 MiB: BulkReader, by end mark", () => {
      const reader = new BulkReader({ kind: "eof", mark });
      for (const chunk of chunks) reader.push(chunk, sink);
    });
  });

  summary(() => {
    const rdb = chunksOf(Buffer.concat([Buffer.from("REDIS0011\xfe", "latin1"), payload]));
    bench("checksum, 64 MiB: reading every word", () => {
      let words = 0;
      for (const chunk of chunks) {
        const view = new Int32Array(chunk.buffer, chunk.byteOffset, chunk.length >>> 2);
        for (let at = 0; at < view.length; at++) words ^= view[at]!;
      }
      keep(words);
    });
    bench("checksum, 64 MiB: Crc64", () => {
      const crc = new Crc64();
      for (const chunk of chunks) crc.update(chunk);
      keep(crc.value);
    });
    bench("checksum, 64 MiB: RdbChecker", () => {
      const checker = new RdbChecker();
      for (const chunk of rdb) checker.push(chunk);
      keep(checker.header);
    });
  });

  summary(() => {
    const getack = encodeCommand("REPLCONF", "GETACK", "*");
    bench("stream, 64 MiB: bare Buffer.indexOf", () => {
      for (const chunk of stream) keep(chunk.indexOf(getack));
    });
    bench("stream, 64 MiB: GetackFinder", () => {
      const finder = new GetackFinder();
      for (const chunk of stream) keep(finder.find(chunk));
    });
  });

  summary(() => {
    const lines = repeat(Buffer.from("+FULLRESYNC 0123456789abcdef 123456789\r\n"), MIB);
    bench("lines, 1 MiB: bare indexOf", () => {
      for (let at = lines.indexOf(10); at !== -1; at = lines.indexOf(10, at + 1)) keep(at);
    });
    bench("lines, 1 MiB: LineReader", () => {
      const reader = new LineReader({ maxLineBytes: 1024 });
      reader.push(lines);
      for (let line = reader.next(); line !== undefined; line = reader.next()) keep(line);
    });
  });

  summary(() => {
    const ack =
      "*5\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$9\r\n123456789\r\n$4\r\nFACK\r\n$9\r\n123456789\r\n";
    bench("encode an ACK: bare Buffer.from", () => keep(Buffer.from(ack)));
    bench("encode an ACK: encodeCommand", () =>
      keep(encodeCommand("REPLCONF", "ACK", 123456789, "FACK", 123456789)),
    );
  });

  summary(() => {
    const commands = repeat(setCommand(), MIB);
    bench("commands, 1 MiB of SETs: bare indexOf of line ends", () => {
      for (let at = commands.indexOf(10); at !== -1; at = commands.indexOf(10, at + 1)) keep(at);
    });
    bench("commands, 1 MiB of SETs: CommandReader", () => {
      const reader = new CommandReader({
        maxLineBytes: 64 * 1024,
        maxArgs: 1024,
        maxArgBytes: MIB,
        maxCommandBytes: MIB,
      });
      reader.push(commands);
      for (let args = reader.next(); args !== undefined; args = reader.next()) keep(args);
    });
  });

  await run();
}

function setCommand(): Uint8Array {
  return encodeCommand("SET", "key:000000000001", "x".repeat(64));
}

function randomBytes(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  // More than 64 KiB at once is refused.
  for (let at = 0; at < length; at += 65_536) {
    crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  }
  return bytes;
}

/** As often as `bytes` fits whole. */
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
