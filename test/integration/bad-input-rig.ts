import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { crc64 } from "../../src/rdb/crc64.ts";
import { type FakePeer } from "../support/fake-peer.ts";
import { bulkPayload, type HandshakeAnswer, standardHandshake } from "../support/fake-primary.ts";
import { currentFiles } from "../support/generation-files.ts";
import { type Ending, type ReplicaProcess } from "../support/replica-process.ts";

export const MARK = "0123456789abcdef0123456789abcdef01234567";
export const REPLID = "a".repeat(40);

/** Opcodes of a string key and of the end: "Redis, rdb.h". */
const TYPE_STRING = "\0";
const OPCODE_EOF = "\xff";

/** A valid RDB of one key, whose value is repeated up to `valueBytes` bytes. */
export function smallRdb(value: string, valueBytes = value.length): Buffer<ArrayBuffer> {
  const length = Buffer.from([0x80, 0, 0, 0, 0]);
  length.writeUInt32BE(valueBytes, 1);
  const body = Buffer.concat([
    Buffer.from(`REDIS0009\xfe\0${TYPE_STRING}\x03key`, "latin1"),
    length,
    Buffer.alloc(valueBytes, value, "latin1"),
    Buffer.from(OPCODE_EOF, "latin1"),
  ]);
  const checksum = Buffer.alloc(8);
  checksum.writeBigUInt64LE(crc64(body));
  return Buffer.concat([body, checksum]);
}

/** Every file below a folder with a hash of its content, and every link with its target; without the database. */
export function filesIn(dir: string): Record<string, string> {
  const found: Record<string, string> = {};
  if (!existsSync(dir)) return found;
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const name = path.slice(dir.length + 1);
    if (entry.isSymbolicLink()) found[name] = `-> ${readlinkSync(path)}`;
    else if (entry.isDirectory()) found[`${name}/`] = "";
    else if (!entry.name.startsWith("replica.")) {
      found[name] = Bun.hash(readFileSync(path)).toString(16);
    }
  }
  return found;
}

/** The snapshot of the current generation. */
export function currentBase(dir: string): Buffer {
  return readFileSync(currentFiles(dir).base);
}

export function currentLog(dir: string): string {
  return readFileSync(currentFiles(dir).log, "latin1");
}

/** Answers the handshake up to `+FULLRESYNC`. */
export async function grantFullSync(
  peer: FakePeer,
  answer: Partial<HandshakeAnswer> = {},
): Promise<string[][]> {
  return await standardHandshake(peer, { replid: REPLID, offset: 100, ...answer });
}

/** Behaves like a primary: grants a full resync with `rdb` and waits for its ACK. */
export async function behave(peer: FakePeer, rdb: Uint8Array): Promise<void> {
  await grantFullSync(peer);
  await peer.send(bulkPayload(rdb));
  await peer.readAck(100);
}

/** The lines of an output, without empty ones. */
export function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}

/** The only line on standard error. @throws Error if there are more, or none. */
export function onlyLine(ended: Ending & { stderr: string }): string {
  const [line, ...more] = lines(ended.stderr);
  if (line === undefined || more.length > 0) {
    throw new Error(`expected one line on standard error: ${JSON.stringify(ended)}`);
  }
  return line;
}

/** The arguments of a `follow` that reconnects at once. */
export function followArgs(url: string, dir: string, ...more: string[]): string[] {
  return ["follow", url, "--dir", dir, "--port", "0", "--retry-max", "20ms", ...more];
}

/** The command line of a process, as every user of the machine can see it. */
export function commandLineOf(replica: ReplicaProcess): string {
  return readFileSync(`/proc/${replica.pid}/cmdline`, "latin1");
}
