import { Database } from "bun:sqlite";
import { expect } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { ReplicaError } from "../../src/base/errors.ts";
import { selectCommand } from "../../src/resp/encode.ts";
import { type Clock, realClock } from "../../src/base/clock.ts";
import { Catalogue } from "../../src/store/restore/catalogue.ts";
import { realDisk } from "../../src/store/disk/disk.ts";
import { CURRENT, filesOf, type GenerationFiles } from "../../src/store/generation/layout.ts";
import { verifyCatalogue, verifyGeneration } from "../../src/store/restore/verify.ts";
import { FaultyDisk } from "../support/faulty-disk.ts";
import { follow } from "../support/following.ts";
import { generationFiles } from "../support/generation-files.ts";
import type { Acknowledged, ModelPrimary } from "../support/model-primary.ts";
import type { TempDir } from "../support/temp.ts";
import { until } from "../support/wait.ts";
import type { Damage } from "../../src/store/restore/damage.ts";

/** A clock on which pauses up to a second pass at once; longer ones, which are limits, take their time. */
export function hastyClock(): Clock {
  let passedMs = 0;
  return {
    ...realClock,
    now: () => realClock.now() + passedMs,
    sleep: (ms, signal) => {
      if (ms > 1_000) return realClock.sleep(ms, signal);
      passedMs += ms;
      return realClock.sleep(Math.min(ms, 2), signal);
    },
  };
}

const WAIT_MS = 50_000;
/** More consecutive failures than any of these faults causes. */
const MAX_TRIES = 40;
const HEADER = selectCommand(0);
const WAL = "-wal";

const verifyOptions = {
  disk: realDisk,
  signal: new AbortController().signal,
  onProgress: () => undefined,
};

/** A disk that remembers the end of each file, and which marks were synced. */
export class RememberingDisk extends FaultyDisk {
  readonly #paths = new Map<number, string>();
  readonly #ends = new Map<string, number>();
  /** The current generation and its last mark, as the last sync of SQLite's log has made them durable. */
  #marked = { generation: 0, offset: 0 };

  /** The offset of the last mark of the current generation that a sync has made durable. */
  get markedOffset(): number {
    return this.#marked.offset;
  }

  /** The highest position ever written in a file. */
  endOf(path: string): number {
    return this.#ends.get(path) ?? 0;
  }

  override create(path: string): number {
    return this.#opened(super.create(path), path);
  }

  override createDirect(path: string): number {
    return this.#opened(super.createDirect(path), path);
  }

  override openExisting(path: string): number {
    return this.#opened(super.openExisting(path), path);
  }

  #opened(fd: number, path: string): number {
    this.#paths.set(fd, path);
    return fd;
  }

  override async syncData(fd: number): Promise<void> {
    const path = this.#paths.get(fd) ?? "";
    const covered = path.endsWith(WAL) ? currentIn(path.slice(0, -WAL.length)) : undefined;
    await super.syncData(fd);
    if (covered !== undefined) {
      this.#marked = { generation: covered.id, offset: covered.durableOffset };
    }
  }

  override writeAtOnce(fd: number, bytes: Uint8Array, position: number): number {
    const taken = super.writeAtOnce(fd, bytes, position);
    const path = this.#paths.get(fd);
    if (path !== undefined) this.#ends.set(path, Math.max(position + taken, this.endOf(path)));
    return taken;
  }

  override async write(fd: number, buffers: Uint8Array[], position: number): Promise<void> {
    const path = this.#paths.get(fd);
    const end = buffers.reduce((sum, { length }) => sum + length, position);
    await super.write(fd, buffers, position);
    if (path !== undefined) this.#ends.set(path, Math.max(end, this.endOf(path)));
  }
}

/** The current generation in a database, with its last mark; undefined if there is none. */
function currentIn(path: string) {
  using db = new Database(path, { readonly: true });
  const row = db
    .query<{ id: number; baseOffset: number; durableOffset: number }, []>(
      `SELECT g.id, g.base_offset AS baseOffset, max(m.durable_offset) AS durableOffset
       FROM generations g JOIN marks m ON m.generation = g.id WHERE g.state = 'current' GROUP BY g.id`,
    )
    .get();
  return row ?? undefined;
}

type Following = ReturnType<typeof follow>;

/** The steps of a life, in order. */
const STEPS = [
  "first sync",
  "stream",
  "new id",
  "full resync",
  "new generation",
  "removal",
  "stop",
] as const;
export type Step = (typeof STEPS)[number];

/**
 * The life of a data directory behind a primary whose every byte is known: one process after another, and
 * what must hold at each moment, whatever the disk does.
 */
export class Lifetime {
  /** The messages of failed starts, stops and new generations. */
  readonly told: string[] = [];
  /** Called before each step of the first process, and with undefined after the last. */
  onStep: (step: Step | undefined) => void = () => undefined;
  readonly #dir: TempDir;
  readonly #primary: ModelPrimary;
  readonly #disk: RememberingDisk;
  readonly #settings: Record<string, string>;
  readonly #clock = hastyClock();
  #broken: unknown;
  #commands = 0;

  constructor(
    dir: TempDir,
    primary: ModelPrimary,
    disk: RememberingDisk,
    settings: Record<string, string>,
  ) {
    this.#dir = dir;
    this.#primary = primary;
    this.#disk = disk;
    this.#settings = settings;
  }

  get path(): string {
    return this.#dir.file("data");
  }

  get #database(): string {
    return join(this.path, "replica.db");
  }

  /** The first process: all of `STEPS`. */
  async first(): Promise<void> {
    await using one = this.#start();
    const steps: Record<Step, () => Promise<void>> = {
      "first sync": () => this.#settled(one),
      stream: () => this.#stream(one, 3),
      "new id": async () => {
        this.#primary.changeId();
        await this.#primary.breakLinks();
        await this.#settled(one);
        await this.#stream(one, 2);
      },
      "full resync": async () => {
        this.#primary.forget();
        await this.#primary.breakLinks();
        await this.#settled(one);
        await this.#stream(one, 2);
      },
      "new generation": () => this.#renew(one),
      removal: async () => {
        await this.#retain(one);
        await this.#stream(one, 1);
      },
      stop: () => this.#stop(one),
    };
    for (const step of STEPS) {
      this.onStep(step);
      await steps[step]();
    }
    this.onStep(undefined);
  }

  /** The second process: a start on the existing files, a stream, a stop. */
  async second(): Promise<void> {
    await using two = this.#start();
    await this.#settled(two);
    await this.#stream(two, 2);
    await this.#stop(two);
  }

  /** The last process, on a sound disk: expects no damage and no leftovers. */
  async last(): Promise<void> {
    {
      await using three = this.#start();
      await this.#settled(three);
      await this.#retain(three);
      await this.#stream(three, 1);
      expect(await three.stop()).toBeUndefined();
    }
    expect(await this.#damages()).toEqual([]);
    this.#expectNothingLeftOver();
    const { baseOffset, files } = this.#current();
    const log = fs.readFileSync(files.log);
    expect(log.equals(Buffer.concat([HEADER, this.#primary.streamFrom(baseOffset)]))).toBe(true);
    const base = fs.readFileSync(files.base);
    expect(base.equals(this.#primary.snapshotAt(baseOffset))).toBe(true);
  }

  /** Starts a process. A start that fails says why, releases the folder, and can be retried. */
  #start(): Following {
    for (let left = MAX_TRIES; ; left--) {
      try {
        const following = follow(
          this.#primary.url,
          this.#disk,
          this.#dir,
          this.#settings,
          undefined,
          this.#clock,
        );
        this.#primary.onAcknowledged = (said) => this.#check(() => this.#onAcknowledged(said));
        return following;
      } catch (error) {
        this.#expectTold(error);
        if (left === 0) throw error;
      }
    }
  }

  #expectTold(error: unknown): void {
    expect(error).toBeInstanceOf(ReplicaError);
    const { code, retry, message } = error as ReplicaError;
    expect(["DISK_FAILED", "DISK_FULL"]).toContain(code);
    expect(retry).toBe("backoff");
    this.told.push(message);
  }

  /** Keeps the first failed check, for the wait to throw. */
  #check(check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#broken ??= error;
    }
  }

  /** Expects ACK not to exceed what was written, and FACK not to exceed the file and the durable mark. */
  #onAcknowledged({ ack, fack }: Acknowledged): void {
    const { baseOffset, files } = this.#current();
    const { log } = files;
    const offsetAt = (bytes: number) => baseOffset + Math.max(0, bytes - HEADER.length);
    const held = Math.max(this.#disk.endOf(log), fs.statSync(log).size);
    expect(ack).toBeLessThanOrEqual(offsetAt(held));
    const { markedOffset } = this.#disk;
    expect(fack).toBeLessThanOrEqual(markedOffset);
    if (this.#settings["ack"] === "durable") expect(ack).toBeLessThanOrEqual(markedOffset);
    expect(fack).toBeLessThanOrEqual(offsetAt(fs.statSync(log).size));
  }

  #current(): { baseOffset: number; files: GenerationFiles } {
    const found = currentIn(this.#database);
    if (found === undefined) throw new Error("no generation is current");
    return { baseOffset: found.baseOffset, files: generationFiles(this.path, found.id) };
  }

  #holds({ replica }: Following): void {
    if (this.#broken !== undefined) throw this.#broken;
    const { log } = replica;
    if (log === undefined) return;
    expect(log.durableOffset).toBeLessThanOrEqual(log.writtenOffset);
    expect(log.writtenOffset).toBeLessThanOrEqual(log.receivedOffset);
    expect(log.receivedOffset).toBeLessThanOrEqual(this.#primary.offset);
  }

  /** Waits until everything the primary has sent is durable, in its current history. */
  async #settled(following: Following): Promise<void> {
    const { replica } = following;
    let broken: unknown;
    const isSo = () => {
      try {
        this.#holds(following);
      } catch (error) {
        broken = error;
        return true;
      }
      return (
        replica.state.at === "connected" &&
        replica.directory.replid === this.#primary.replid &&
        replica.log?.durableOffset === this.#primary.offset
      );
    };
    await until(isSo, { what: "all to be durable", timeoutMs: WAIT_MS, everyMs: 1 }).catch(
      (error: unknown) => {
        const { log, state, links } = replica;
        const at = `${state.at}, received ${log?.receivedOffset}, durable ${log?.durableOffset} of ${this.#primary.offset}; ${links.lastCause}`;
        throw new Error(`${String(error)}: ${at}`, { cause: error });
      },
    );
    if (broken !== undefined) throw broken;
  }

  #say(): void {
    this.#primary.write("SET", `key:${this.#commands++}`, "a value ".repeat(10));
  }

  async #stream(following: Following, commands: number): Promise<void> {
    for (let left = commands; left > 0; left--) {
      this.#say();
      this.#primary.write("REPLCONF", "GETACK", "*");
      await this.#settled(following);
    }
  }

  /** Asks for new generations until one succeeds, while the stream goes on. */
  async #renew(following: Following): Promise<void> {
    const { renewal } = following.replica;
    for (let left = MAX_TRIES; ; left--) {
      await this.#settled(following);
      try {
        renewal.begin("BGSAVE");
        this.#say();
        await until(() => renewal.runningSeconds === undefined, {
          what: "the new generation",
          timeoutMs: WAIT_MS,
          everyMs: 1,
        });
        if (renewal.last?.error === undefined) break;
        throw renewal.last.error;
      } catch (error) {
        // A break of the followed link ends it, too.
        if (!(error instanceof ReplicaError && error.code === "PRIMARY_REFUSED")) {
          this.#expectTold(error);
        }
        if (left === 0) throw error;
      }
    }
    await this.#settled(following);
  }

  async #retain({ replica }: Following): Promise<void> {
    replica.upkeep.retention.tick();
    await replica.upkeep.retention.stop();
  }

  /** Stops; a stop may fail only by a fault that happened meanwhile. */
  async #stop(following: Following): Promise<void> {
    const { length: before } = this.#disk.struck;
    const error = await following.stop();
    if (this.#broken !== undefined) throw this.#broken;
    if (error !== undefined) {
      this.#expectTold(error);
      expect(this.#disk.struck.length).toBeGreaterThan(before);
    }
    // The next start repairs a `current` link that could not be updated.
    const damages = (await this.#damages()).filter(({ file }) => !file.endsWith(CURRENT));
    expect(damages).toEqual([]);
  }

  async #damages(): Promise<Damage[]> {
    using catalogue = new Catalogue(this.path);
    const damages = await verifyCatalogue(catalogue, verifyOptions.signal);
    for (const generation of catalogue.generations) {
      const found = await verifyGeneration(catalogue, generation, verifyOptions);
      damages.push(...found.damages);
    }
    return damages;
  }

  #expectNothingLeftOver(): void {
    using catalogue = new Catalogue(this.path);
    const kept = catalogue.generations;
    expect(kept.length).toBeLessThanOrEqual(1 + Number(this.#settings["keep"]));
    const wanted = kept.flatMap((generation) => {
      const { base, log, manifest } = filesOf(generation);
      return [generation.dir, base, log, manifest];
    });
    wanted.push(...[CURRENT, "generations", "replica.db"].map((name) => join(this.path, name)));
    const found = fs
      .readdirSync(this.path, { recursive: true, encoding: "utf8" })
      .map((name) => join(this.path, name))
      .filter((path) => !/replica\.(lock|reserve|db-wal|db-shm)$|\/current\//.test(path))
      .filter((path) => !this.#couldNotGo(path));
    expect(found.toSorted()).toEqual(wanted.toSorted());
    using db = new Database(this.#database, { readonly: true });
    const whole = "SELECT id FROM generations WHERE state <> 'receiving' ORDER BY id";
    expect(db.query<object, []>(whole).all()).toEqual(
      catalogue.generations.map(({ id }) => ({ id })),
    );
  }

  /** A temporary file whose removal failed stays with its generation. */
  #couldNotGo(path: string): boolean {
    const isTried = this.#disk.struck.some(
      ({ operation, subject }) => operation === "remove" && subject === path,
    );
    return isTried && path.includes("/temp-");
  }
}
