import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { encodeCommand } from "../support/resp.ts";
import type { RealServer } from "../support/servers.ts";
import { follow } from "../support/following.ts";
import type { TempDir } from "../support/temp.ts";
import { PATIENCE_MS, until, within } from "../support/wait.ts";

export type Following = ReturnType<typeof follow>;

/** Starts a replica in this process that reconnects at once, and opens no connection but its link: faults are counted. */
export function followAgain(
  url: string,
  dir: TempDir,
  more: Record<string, string> = {},
  clock: Clock = realClock,
) {
  const settings = { "retry-max": "10ms", "ask-primary": "no", "min-free": "0", ...more };
  return follow(url, realDisk, dir, settings, undefined, clock);
}

/**
 * Reads `bytes` bytes of a primary's stream after `offset`, from its backlog.
 * @throws Error if it doesn't continue from there.
 */
async function streamOf(
  server: RealServer,
  replid: string,
  offset: number,
  bytes: number,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let came = 0;
  /** Length of the reply line; 0 until it is complete. */
  let lineBytes = 0;
  const over = Promise.withResolvers<void>();
  await using socket = await connected(server.port, {
    data: (_socket, chunk) => {
      chunks.push(Buffer.from(chunk));
      came += chunk.length;
      if (lineBytes === 0) lineBytes = Buffer.concat(chunks).indexOf("\n") + 1;
      if (lineBytes > 0 && came >= lineBytes + bytes) over.resolve();
    },
    close: () => over.reject(new Error("the primary closed the link")),
  });
  socket.write(encodeCommand(["PSYNC", replid, offset + 1]));
  await within(PATIENCE_MS, `${bytes} bytes of the primary's backlog`, over.promise);
  const all = Buffer.concat(chunks);
  const line = all.toString("latin1", 0, lineBytes);
  if (!line.startsWith("+CONTINUE")) throw new Error(`the primary answers ${line}`);
  return all.subarray(lineBytes, lineBytes + bytes);
}

async function connected(port: number, socket: Bun.SocketHandler) {
  const connection = await Bun.connect({ hostname: "127.0.0.1", port, socket });
  return {
    write: (bytes: Uint8Array) => connection.write(bytes),
    [Symbol.asyncDispose]: async () => connection.terminate(),
  };
}

/** Waits until the replica has written the primary's stream up to its current end. */
export async function caughtUp({ replica }: Following, server: RealServer): Promise<void> {
  const end = await server.offset();
  await until(() => (replica.log?.writtenOffset ?? -1) >= end, {
    what: `offset ${end}; the last error: ${replica.links.lastCause}`,
  });
}

/** Expects the log to equal the primary's stream byte for byte, and no temporary file. */
export async function expectWhole(following: Following, server: RealServer): Promise<void> {
  await caughtUp(following, server);
  const { directory } = following.replica;
  const { baseOffset, logHeaderBytes, id } = directory.current!;
  const log = readFileSync(directory.logPath(id)).subarray(logHeaderBytes);
  const sent = await streamOf(server, directory.replid!, baseOffset, log.length);
  const differsAt = log.findIndex((byte, at) => byte !== sent[at]);
  expect({ bytes: log.length, differsAt }).toEqual({ bytes: sent.length, differsAt: -1 });
  expect(halfMadeIn(following.path)).toEqual([]);
}

/** The temporary files below a data directory. */
export function halfMadeIn(dir: string): string[] {
  const names = readdirSync(dir, { recursive: true, encoding: "utf8" });
  return names.filter((name) => /temp-|\.tmp/.test(name));
}

/** The details of a replica's events, of one kind or of all, in order. */
export function eventsOf(dir: string, kind?: string): string[] {
  using db = new Database(join(dir, "replica.db"), { readonly: true });
  const rows = db.query<{ kind: string; detail: string }, []>(
    "SELECT kind, detail FROM events ORDER BY rowid",
  );
  return rows
    .all()
    .filter((row) => kind === undefined || row.kind === kind)
    .map(({ detail }) => detail);
}
