import { appendFileSync, cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type {
  ArchiveSource,
  LocalGeneration,
  LocalMark,
} from "../../../src/archive/writer/archive-source.ts";
import { hex64 } from "../../../src/base/hex64.ts";
import type { Offset, ReplicationId, ReplicationIdFrom } from "../../../src/base/history.ts";
import { crc64 } from "../../../src/rdb/crc64.ts";
import { Random } from "../../support/fill.ts";

const SELECT = Buffer.from("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");

interface Grown {
  generation: LocalGeneration;
  readonly rdb: Buffer;
  log: Buffer;
  readonly marks: LocalMark[];
  readonly histories: ReplicationIdFrom[];
}

/** Generations of a made-up data directory: the files are there, and what the ledger would say of them. */
export class LocalHistory implements ArchiveSource {
  readonly #dir: string;
  readonly #random: Random;
  readonly #seed: number;
  readonly #all = new Map<number, Grown>();
  #lastId = 0;
  #timeMs = Date.UTC(2026, 10, 30);
  /** How many files are kept from removal at present, and how often they were. */
  pinned = 0;
  pins = 0;
  /** Whether marks are settled as soon as they are made; else `settle` does that. */
  isSettled = true;
  /** Whether no power cut takes back which generations there are; `onAscertain` makes it so. */
  isCertain = true;
  onAscertain = (): Promise<void> => Promise.resolve();
  /** What the archiver asked for, and what does it. */
  readonly wishes: Offset[] = [];
  onWish: (id: number, offset: Offset) => void = () => undefined;

  constructor(dir: string, seed: number) {
    this.#dir = dir;
    this.#seed = seed;
    this.#random = new Random(seed);
  }

  /** What is coming in, and how much of it is durable. */
  #arriving:
    { id: number; rdb: Buffer; syncedBytes: number; generation: LocalGeneration } | undefined;

  arriving(): LocalGeneration | undefined {
    const coming = this.#arriving;
    return coming && { ...coming.generation, rdbBytes: coming.syncedBytes };
  }

  /** The base of the next generation begins to come in. */
  arrive(rdbBytes: number, baseOffset: Offset): void {
    const id = ++this.#lastId;
    const rdb = Buffer.alloc(rdbBytes, this.#random.text(997));
    const dir = `${this.#dir}/${id}`;
    mkdirSync(dir, { recursive: true });
    const generation = {
      id,
      arriving: String(id).padStart(40, "a") as ReplicationId,
      startedMs: this.#tick(),
      primaryName: "127.0.0.1:6379",
      baseOffset,
      rdbBytes: 0,
      rdbCrc64: "",
      logHeaderBytes: 0,
      durableOffset: baseOffset,
      settledOffset: baseOffset,
      sealed: undefined,
      basePath: `${dir}/temp.rdb`,
      logPath: `${dir}/incr.aof`,
      memoryPath: `${dir}/archive.jsonl`,
    };
    this.#arriving = { id, rdb, syncedBytes: 0, generation };
  }

  /** So much of it is durable; some more is written. */
  came(syncedBytes: number): void {
    const coming = this.#arriving!;
    writeFileSync(coming.generation.basePath, coming.rdb.subarray(0, syncedBytes + 1000));
    coming.syncedBytes = syncedBytes;
  }

  /** It is whole, and current. Returns its id. */
  becomes(): number {
    const { rdb, generation } = this.#arriving!;
    this.#arriving = undefined;
    rmSync(generation.basePath, { force: true });
    this.#lastId--;
    return this.begin(rdb.length, generation.baseOffset, 0, rdb);
  }

  /** It was given up: its folder is gone. */
  giveUp(): void {
    rmSync(dirname(this.#arriving!.generation.basePath), { recursive: true });
    this.#arriving = undefined;
  }

  /**
   * A generation that becomes current now; the one before it is sealed. Returns its id.
   * @param agoMs how long ago its snapshot was taken, in milliseconds.
   */
  begin(
    rdbBytes: number,
    baseOffset: Offset,
    agoMs = 0,
    rdb: Buffer = Buffer.alloc(rdbBytes, this.#random.text(997)),
  ): number {
    const before = [...this.#all.keys()].at(-1);
    if (before !== undefined) this.seal(before);
    const id = ++this.#lastId;
    const path = (file: string) => `${this.#dir}/${id}/${file}`;
    const generation = {
      id,
      startedMs: this.#tick() - agoMs,
      primaryName: "127.0.0.1:6379",
      baseOffset,
      rdbBytes,
      rdbCrc64: hex64(crc64(rdb.subarray(0, -8))),
      logHeaderBytes: SELECT.length,
      durableOffset: baseOffset,
      settledOffset: baseOffset,
      sealed: undefined,
      basePath: path("base.rdb"),
      logPath: path("incr.aof"),
      memoryPath: path("archive.jsonl"),
    };
    mkdirSync(dirname(generation.basePath), { recursive: true });
    writeFileSync(generation.basePath, rdb);
    writeFileSync(generation.logPath, SELECT);
    const replid = String(id).padStart(40, "a") as ReplicationId;
    this.#all.set(id, {
      generation,
      rdb,
      log: SELECT,
      marks: [{ timeMs: generation.startedMs, offset: baseOffset }],
      histories: [{ replid, fromOffset: baseOffset }],
    });
    return id;
  }

  /** The log of a generation grows: so many bytes are durable, and some more are written. */
  grow(id: number, bytes: number): Offset {
    const grown = this.#all.get(id)!;
    const more = Buffer.alloc(bytes, this.#random.text(1 + this.#random.below(300)));
    const { generation } = grown;
    // What is behind the durable bytes is no part of it yet.
    writeFileSync(generation.logPath, Buffer.concat([grown.log, more, Buffer.from("unsynced")]));
    grown.log = Buffer.concat([grown.log, more]);
    const durableOffset = generation.durableOffset + bytes;
    const settledOffset = this.isSettled ? durableOffset : generation.settledOffset;
    grown.generation = { ...generation, durableOffset, settledOffset };
    grown.marks.push({ timeMs: this.#tick(), offset: durableOffset });
    return durableOffset;
  }

  settle(id: number, offset: Offset): void {
    this.wishes.push(offset);
    this.onWish(id, offset);
  }

  /** The marks of a generation are settled up to its last durable byte. */
  settleAll(id: number): Offset {
    const grown = this.#all.get(id)!;
    const settledOffset = grown.generation.durableOffset;
    grown.generation = { ...grown.generation, settledOffset };
    return settledOffset;
  }

  /** The stream goes on under another replication id. */
  continueAs(id: number, replid: string): void {
    const { histories, generation } = this.#all.get(id)!;
    histories.push({ replid: replid as ReplicationId, fromOffset: generation.durableOffset });
  }

  /** So many marks, each a byte further. */
  growWithMarks(id: number, count: number): void {
    const grown = this.#all.get(id)!;
    const { durableOffset } = grown.generation;
    this.grow(id, count);
    grown.marks.pop();
    for (let at = 1; at <= count; at++)
      grown.marks.push({ timeMs: this.#timeMs + at, offset: durableOffset + at });
  }

  async ascertain(): Promise<void> {
    await this.onAscertain();
    this.isCertain = true;
  }

  /** A power cut, or somebody, has put back an older state of the ledger. */
  unseal(id: number): void {
    const grown = this.#all.get(id)!;
    grown.generation = { ...grown.generation, sealed: undefined };
  }

  seal(id: number): void {
    const grown = this.#all.get(id)!;
    grown.generation = {
      ...grown.generation,
      settledOffset: grown.generation.durableOffset,
      sealed: { atMs: this.#tick(), reason: "a newer snapshot" },
    };
  }

  /** The data directory as `cp -a` copies it. */
  copyTo(dir: string): LocalHistory {
    cpSync(this.#dir, dir, { recursive: true, preserveTimestamps: true });
    const copy = new LocalHistory(dir, this.#seed);
    copy.#lastId = this.#lastId;
    for (const [id, grown] of this.#all) {
      const there = (path: string) => path.replace(this.#dir, dir);
      const { basePath, logPath, memoryPath } = grown.generation;
      const paths = {
        basePath: there(basePath),
        logPath: there(logPath),
        memoryPath: there(memoryPath),
      };
      const [marks, histories] = [[...grown.marks], [...grown.histories]];
      const generation = { ...grown.generation, ...paths };
      copy.#all.set(id, { ...grown, generation, marks, histories });
    }
    return copy;
  }

  /** A primary that names no history. */
  forgetHistories(id: number): void {
    this.#all.get(id)!.histories.length = 0;
  }

  remove(id: number): void {
    rmSync(dirname(this.#all.get(id)!.generation.basePath), { recursive: true });
    this.#all.delete(id);
  }

  /** Another stream, of the same length, was written in place of what came after `offset`. */
  rewrite(id: number, offset: Offset): void {
    const grown = this.#all.get(id)!;
    const { baseOffset, logPath } = grown.generation;
    grown.log = Buffer.from(grown.log);
    grown.log.fill("other", offset - baseOffset + SELECT.length);
    writeFileSync(logPath, grown.log);
  }

  damageBase(id: number): void {
    const { generation, rdb } = this.#all.get(id)!;
    const damaged = Buffer.from(rdb);
    damaged[100]! ^= 1;
    writeFileSync(generation.basePath, damaged);
  }

  tearMemory(id: number): void {
    appendFileSync(this.#all.get(id)!.generation.memoryPath, '{"index":9,"na');
  }

  /** What the archive has to hold in the end: the base, and the log up to its last durable byte. */
  content(id: number): { readonly base: Buffer; readonly log: Buffer } {
    const { rdb, log } = this.#all.get(id)!;
    return { base: rdb, log };
  }

  of(id: number): LocalGeneration {
    return this.#all.get(id)!.generation;
  }

  marksOf(id: number): readonly LocalMark[] {
    return this.#all.get(id)!.marks;
  }

  generations(
    isLeftOut: (id: number) => boolean = () => false,
    most = Infinity,
  ): readonly LocalGeneration[] {
    const all = [...this.#all.values()].map(({ generation }) => generation);
    return all.filter(({ id }) => !isLeftOut(id)).slice(0, most);
  }

  marks(id: number, from: Offset, to: Offset, most: number): readonly LocalMark[] {
    const { marks } = this.#all.get(id)!;
    return marks.filter(({ offset }) => offset >= from && offset <= to).slice(0, most);
  }

  histories(id: number): readonly ReplicationIdFrom[] {
    return this.#all.get(id)!.histories;
  }

  pin(): () => void {
    this.pinned++;
    this.pins++;
    return () => void this.pinned--;
  }

  #tick(): number {
    // Names tell generations apart by the second.
    this.#timeMs += 1_000 + this.#random.below(1_000);
    return this.#timeMs;
  }
}
