import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { followArgs, smallRdb } from "../integration/bad-input-rig.ts";
import { type FakePeer, PeerGone } from "../support/fake-peer.ts";
import { bulkPayload, type FakePrimary, fakePrimary } from "../support/fake-primary.ts";
import { generationFiles } from "../support/generation-files.ts";
import { type ReplicaProcess, runReplica, startReplica } from "../support/replica-process.ts";
import { encodeCommand } from "../support/resp.ts";
import { type TempDir, tempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import type { Speech } from "./mutations.ts";

type Play = (peer: FakePeer) => Promise<void>;

/** The files of one generation. */
interface KeptFiles {
  readonly base: string;
  readonly manifest: string;
  readonly log: Buffer;
}

/** The relevant part of `replica verify --json`. */
interface Findings {
  readonly generations: readonly {
    readonly id: number;
    readonly state: string;
    readonly ok: boolean;
    readonly rdb: object;
  }[];
  readonly damages: readonly {
    readonly file: string;
    readonly byte: number;
    readonly what: string;
  }[];
}

interface Kept {
  readonly current: string | undefined;
  readonly generations: ReadonlyMap<string, KeptFiles>;
  /** The arguments of the PSYNC that resumes. */
  readonly asks: readonly [replid: string, offset: string];
}

const FILES = "/appendonly\\.aof\\.(manifest|[1-9]\\d*\\.base\\.rdb|[1-9]\\d*\\.incr\\.aof)";
const KNOWN_NAMES = new RegExp(
  `^(replica\\.(lock|reserve|db(-wal|-shm)?)|(current|generations/\\d{10})(${FILES})?|generations)$`,
);
/** A write and a GETACK. */
const STREAM = Buffer.concat([
  encodeCommand(["SET", "key", "value"]),
  encodeCommand(["REPLCONF", "GETACK", "*"]),
]);
const REASON = / warn {2}.*; next attempt in \d+ ms code=[A-Z_]+ primary=redis:/;
/** A log line up to level warn, in printable characters; "…" marks a cut line. */
const PLAIN = /^(\S+ (info|warn) {2}[\x20-\x7e…]+)?$/;

/** A replica process, and a primary that behaves unless it is told to play something else. */
export class HostileStage implements AsyncDisposable {
  readonly replica: ReplicaProcess;
  readonly #temp: TempDir;
  readonly #primary: FakePrimary;
  /** The script of the next connection. */
  #hostile: Play | undefined;
  /** Later connections wait here until the effect of the hostile one has been checked. */
  #gate = Promise.withResolvers<void>();
  #waiting = 0;
  #followed: FakePeer | undefined;
  #fullSyncs = 0;
  #kept: Kept | undefined;
  /** The PSYNC that the next honest connection must receive. */
  #asks: Kept["asks"] | undefined;
  /** How the honest primary answers PSYNC. */
  #mode: "full" | "continue" = "full";

  /** @param flags more flags for the replica. */
  constructor(...flags: string[]) {
    this.#temp = tempDir("hostile");
    this.#primary = fakePrimary(async (peer) => await this.#meet(peer));
    const args = [...followArgs(this.#primary.url, this.dir), "--keep", "1000", ...flags];
    this.replica = startReplica(args, { cwd: this.#temp.path });
    this.#gate.resolve();
  }

  get dir(): string {
    return this.#temp.file("data");
  }

  /** Waits until the replica follows the honest primary. */
  async followed(): Promise<void> {
    await until(() => this.#followed !== undefined && !this.#followed.isClosed, {
      what: "an honest primary to be followed",
    }).catch((error: unknown) => {
      const complaints = this.#primary.failures.map(({ message }) => message).join("\n");
      throw new Error(`${String(error)}\n${complaints}\n${this.replica.output()}`, {
        cause: error,
      });
    });
    this.#kept = keptIn(this.dir);
  }

  /**
   * Plays `play` on the next connection and checks its effect before the following one is answered. Then an
   * honest primary continues the stream if possible.
   * @returns the logged reasons, and whether anything was accepted.
   */
  async suffer(play: Play): Promise<{ reasons: string[]; accepted: boolean }> {
    const before = this.#kept;
    const said = this.replica.stderr.length;
    const gate = Promise.withResolvers<void>();
    this.#gate = gate;
    this.#hostile = play;
    this.#waiting = 0;
    const last = this.#followed;
    this.#followed = undefined;
    if (last !== undefined && !last.isClosed) await last.close();
    await until(() => this.#waiting > 0 || !this.replica.isRunning, {
      what: `the attempt behind the hostile one\n${this.replica.output()}`,
    });
    expect(this.replica.isRunning, this.replica.output()).toBe(true);
    await until(() => unknownIn(this.dir).length === 0, {
      what: "the end of what is half made",
    }).catch(() => expect(unknownIn(this.dir)).toEqual([]));
    expect(readdirSync(this.#temp.path)).toEqual(["data"]);
    const after = keptIn(this.dir);
    const accepted = before === undefined ? after.current !== undefined : changed(before, after);
    const lines = this.replica.stderr.slice(said).split("\n");
    const all = lines.filter((line) => REASON.test(line));
    for (const line of lines.slice(0, -1)) expect(line).toMatch(PLAIN);
    // The first reason is that of the honest link, which was closed.
    const reasons = all.slice(last === undefined ? 0 : 1);
    // An outage with one cause is told once: only a hostile link that ends just so has no reason of its own.
    const isToldBefore = / the primary closed the link;/.test(all[0] ?? "");
    expect(reasons.length > 0 || isToldBefore, lines.join("\n")).toBe(true);
    this.#asks = after.asks;
    this.#mode = accepted || after.current === undefined ? "full" : "continue";
    gate.resolve();
    await this.followed();
    return { reasons, accepted };
  }

  /** Stops the replica; expects exit code 0. */
  async stop(): Promise<void> {
    expect(await this.replica.stop()).toEqual({ exitCode: 0, signal: null });
    expect(this.replica.stdout).toBe("");
  }

  /** The findings of `replica verify`. */
  async verified(): Promise<Findings> {
    const { stdout } = await runReplica(["verify", this.dir, "--json"]);
    return JSON.parse(stdout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.replica[Symbol.asyncDispose]();
    await this.#primary.stop();
    this.#temp.remove();
  }

  async #meet(peer: FakePeer): Promise<void> {
    try {
      const hostile = this.#hostile;
      this.#hostile = undefined;
      if (hostile !== undefined) {
        await hostile(peer);
        if (!peer.isClosed) await peer.close();
        return;
      }
      this.#waiting++;
      await this.#gate.promise;
      if (!peer.isClosed) await this.#behave(peer);
    } catch (error) {
      // The replica may close the link at any time.
      if (!(error instanceof PeerGone)) throw error;
    }
  }

  async #behave(peer: FakePeer): Promise<void> {
    const psync = await handshake(peer);
    if (this.#asks !== undefined) expect(psync).toEqual(["PSYNC", ...this.#asks]);
    this.#asks = undefined;
    let offset: number;
    if (this.#mode === "full") {
      const replid = String(++this.#fullSyncs).padStart(40, "b");
      offset = 1_000 * this.#fullSyncs;
      await peer.send(`+FULLRESYNC ${replid} ${offset}\r\n`);
      await peer.send(bulkPayload(smallRdb(`snapshot ${this.#fullSyncs}`)));
    } else {
      offset = Number(psync[2]) - 1;
      await peer.send("+CONTINUE\r\n");
    }
    await peer.send(STREAM);
    await peer.readAck(offset + STREAM.length);
    this.#followed = peer;
  }
}

/** Answers the handshake up to PSYNC; returns its words. */
export async function handshake(peer: FakePeer): Promise<string[]> {
  for (;;) {
    const words = await peer.readCommand();
    if (words[0] === "PSYNC") return words;
    await peer.send(words[0] === "PING" ? "+PONG\r\n" : "+OK\r\n");
  }
}

/** Plays a speech. */
export async function say(peer: FakePeer, { answers, pieces }: Speech): Promise<void> {
  for (const [n, piece] of pieces.entries()) {
    if (n < answers) await peer.readCommand();
    await peer.send(piece);
  }
}

/** Files that don't belong in a data directory, and folders of unfinished generations. */
function unknownIn(dir: string): string[] {
  const names = readdirSync(dir, { recursive: true, encoding: "utf8" });
  const folders = readdirSync(join(dir, "generations"));
  const { generations } = keptIn(dir);
  return [
    ...names.filter((name) => !KNOWN_NAMES.test(name)),
    ...folders.filter((name) => !generations.has(name)),
  ];
}

function keptIn(dir: string): Kept {
  using db = new Database(join(dir, "replica.db"), { readonly: true });
  const rows = db
    .query<
      { id: number; state: string; baseOffset: number; headerBytes: number; replid: string },
      []
    >(
      `SELECT id, state, base_offset AS baseOffset, log_header_bytes AS headerBytes,
         (SELECT replid FROM replication_ids WHERE generation = id ORDER BY rowid DESC LIMIT 1) AS replid
       FROM generations WHERE state != 'receiving' ORDER BY id`,
    )
    .all();
  const generations = new Map<string, KeptFiles>();
  let current: string | undefined;
  let asks: readonly [string, string] = ["?", "-1"];
  for (const { id, state, baseOffset, headerBytes, replid } of rows) {
    const name = String(id).padStart(10, "0");
    const files = generationFiles(dir, id);
    const base = readFileSync(files.base, "base64");
    const manifest = readFileSync(files.manifest, "utf8");
    const log = readFileSync(files.log);
    generations.set(name, { base, manifest, log });
    if (state !== "current") continue;
    current = name;
    if (replid !== null) asks = [replid, String(baseOffset + log.length - headerBytes + 1)];
  }
  return { current, generations, asks };
}

/** Expects everything kept to be unchanged. @returns whether something has been added. */
function changed(before: Kept, after: Kept): boolean {
  for (const [name, { base, manifest, log }] of before.generations) {
    const now = after.generations.get(name);
    expect(now?.base).toBe(base);
    expect(now?.manifest).toBe(manifest);
    expect(now?.log.subarray(0, log.length).equals(log)).toBe(true);
    if (name !== before.current) expect(now?.log.length).toBe(log.length);
  }
  const same = after.current === before.current && after.asks.join() === before.asks.join();
  return !same || after.generations.size !== before.generations.size;
}
